"""The ``qfl`` command.

Nothing heavy is imported before a command needs it: ``qfl --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence

from qfl import __version__
from qfl.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError, QflError, unknown_name

USAGE = """\
usage: qfl COMMAND …

Quantum federated learning from edge devices to cloud servers.

commands:
  simulate experiment=NAME [overrides…]   run an experiment on this machine; -h lists what can
                                          be set, --multirun sweeps, resume=RUN_DIR goes on
  report RUN_DIR                          write the HTML report of a run
  privacy plan|ledger                     the noise that a budget takes, what was spent; -h
  audit verify RUN_DIR                    whether a run's records are those that were written
  provision FEDERATION.yaml -o KITS       keys and certificates, a kit for each participant; -h
  doctor                                  what is installed, what is missing, how to get it

options:
  --version    print the version
  --debug      show the traceback of an error
  -h, --help   this text

Exit codes: 0 success, 1 defect, 2 configuration, 3 data, 4 missing package, 5 federation
failed, 6 message refused, 7 run folder or disk, 8 privacy refused, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (see :mod:`qfl.errors`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        return _dispatch(given)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print("qfl: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except QflError as error:
        if debug:
            traceback.print_exc()
        print(f"qfl: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(
            f"qfl: unexpected {type(error).__name__}: {error} (--debug shows where; please "
            "report it)",
            file=sys.stderr,
        )
        return 1


def _dispatch(given: list[str]) -> int:
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return EXIT_OK
    if command == "--version":
        print(f"qfl {__version__}")
        return EXIT_OK
    commands = {
        "simulate": _simulate,
        "report": _report,
        "privacy": _privacy,
        "audit": _audit,
        "provision": _provision,
        "doctor": _doctor,
    }
    if command not in commands:
        raise ConfigError(unknown_name("command", command, commands))
    return commands[command](rest)


def _simulate(rest: list[str]) -> int:
    from qfl.federation.command import run_simulate

    run_simulate(rest)
    return EXIT_OK


def _report(rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="qfl report", description=_report.__doc__)
    parser.add_argument("run_dir", help="folder of a run")
    options = parser.parse_args(rest)
    from pathlib import Path

    from qfl.federation.report import write_report

    print(write_report(Path(options.run_dir)))
    return EXIT_OK


def _privacy(rest: list[str]) -> int:
    from qfl.federation.privacy_command import run_privacy

    run_privacy(rest)
    return EXIT_OK


def _audit(rest: list[str]) -> int:
    from qfl.federation.audit_command import run_audit

    run_audit(rest)
    return EXIT_OK


def _provision(rest: list[str]) -> int:
    from qfl.federation.provision_command import run_provision

    run_provision(rest)
    return EXIT_OK


def _doctor(rest: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="qfl doctor")
    parser.add_argument("--brief", action="store_true", help="only what is missing or could help")
    options = parser.parse_args(rest)
    from qfl.federation.doctor import print_report

    print_report(brief=options.brief)
    return EXIT_OK


def entry_point() -> None:
    """What the console script calls."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    code = main()
    if any(thread.name.startswith("qfl-local-node") for thread in threading.enumerate()):
        # A simulated client still computes, after Ctrl-C or a failure. Were Python to end its
        # thread inside PyTorch, the process would abort, with another exit code.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
