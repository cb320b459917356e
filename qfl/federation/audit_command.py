"""``qfl audit``: whether the records of a run are those that were written."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfl.errors import ConfigError, SignatureError, StorageError, unknown_name

if TYPE_CHECKING:
    from qfl.identity.audit_verdict import Verdict

USAGE = """\
usage: qfl audit verify RUN_DIR [--head DIGEST] [--json]

verify  Check every record of audit.jsonl: that it is signed, unchanged, and follows on the one
        before. Names the first line that is not; the exit code is then 6.

  --head DIGEST   digest of a record, kept from an earlier time: it must be in the trail. Only so
                  is it seen that lines at the end were cut off, or all of them written anew
  --json          print JSON
"""

_TRAIL = "audit.jsonl"


def run_audit(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: The command line cannot be understood.
        SignatureError: The trail does not verify.
        StorageError: There is no trail, or it cannot be read.
    """
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help") or "-h" in rest or "--help" in rest:
        print(USAGE, end="")
        return
    commands = {"verify": _verify}
    if command not in commands:
        raise ConfigError(unknown_name("command of qfl audit", command, commands))
    commands[command](rest)


def _verify(rest: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="qfl audit verify", add_help=False, allow_abbrev=False)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--head")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(rest)
    head = None if options.head is None else options.head.lower()
    if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
        raise ConfigError(
            f"--head {options.head!r} is no digest: give the 64 hexadecimal digits that qfl audit "
            "verify printed"
        )
    from qfl.federation.audit_trail import read_trail
    from qfl.identity.audit_check import examine

    path = _trail_at(options.run_dir)
    verdict = examine(read_trail(path), head)
    if options.json:
        print(json.dumps({"trail": str(path), "verified": not verdict.flaw} | asdict(verdict)))
    elif verdict.records:
        for line in _lines(path, verdict):
            print(line)
    if verdict.flaw:
        raise SignatureError(_refusal(path, verdict))


def _trail_at(run_dir: Path) -> Path:
    path = run_dir / _TRAIL
    if path.exists():
        return path
    if not run_dir.is_dir():
        raise StorageError(f"{run_dir} is not a folder: give the folder of a run")
    raise StorageError(f"{run_dir} holds no {_TRAIL}: it is no run folder, or its trail is gone")


def _lines(path: Path, verdict: Verdict) -> list[str]:
    said = [
        f"{path}",
        f"Run: {verdict.run}",
        f"Records: {verdict.records}{' before the flaw' if verdict.flaw else ', all hold'}",
        f"Segments: {len(verdict.segments)}",
        *(f"  from line {one.line}, {one.time}, key {one.key}" for one in verdict.segments),
        *_countersigned(verdict),
    ]
    if verdict.known is not None:
        said.append(
            f"The head given is line {verdict.known}; lines after it: "
            f"{verdict.records - verdict.known}"
        )
    said.append(f"Head: {verdict.head}")
    if not verdict.flaw and verdict.known is None:
        said.append(
            "Whether lines after it were cut off, or all written anew, the file cannot tell: keep "
            "the head elsewhere and give it with --head."
        )
    return said


def _countersigned(verdict: Verdict) -> list[str]:
    """The last line that each witness has seen, those of the same line together."""
    last = {(one.name, one.key): one.n for one in sorted(verdict.witnesses, key=lambda one: one.n)}
    said = []
    for n in sorted(set(last.values())):
        names = [f"  {name!r}, key {key}" for (name, key), seen in last.items() if seen == n]
        said += [f"Countersigned up to line {n} by {len(names)}:", *sorted(names)]
    return said


def _refusal(path: Path, verdict: Verdict) -> str:
    flaw: Any = verdict.flaw
    if flaw.kind == "plain":
        return (
            f"{path} is plain: its lines are neither chained nor signed, so nothing can be "
            "verified. Earlier versions of qfl wrote it so; a trail of this version was stripped"
        )
    remedy = {
        "torn": "; if the run crashed, resume=… drops this line and goes on",
        "damaged": "; compare it with a copy, and trust no line from there on",
        "cut": "; compare it with a copy",
    }[flaw.kind]
    return f"{path}, line {flaw.line}: {flaw.reason}{remedy}"
