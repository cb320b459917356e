"""``qfl simulate``: Hydra's command line around :func:`qfl.simulate`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from qfl.errors import ConfigError, QflError, StorageError
from qfl.federation.compose import CONFIG_NAME, VERSION_BASE, register_schemas, translate

_OPTIONS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun"),
}
_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def run_simulate(arguments: list[str]) -> None:
    """Run Hydra with these arguments.

    Raises:
        QflError: What was refused, or failed.
        KeyboardInterrupt: The run was interrupted.
    """
    import hydra
    from hydra.errors import HydraException

    register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's own printer
    failures: list[QflError] = []

    def job(composed: Any) -> None:
        try:
            _job(composed)
        except KeyboardInterrupt:
            _discard_if_unused()
            raise
        except QflError as error:
            _discard_if_unused()
            if not _kept_for_later(error):
                raise
            failures.append(error)

    before = sys.argv
    sys.argv = ["qfl simulate", *_options_first(_in_its_own_folder(arguments))]
    command = hydra.main(
        config_path="pkg://qfl.conf", config_name=CONFIG_NAME, version_base=VERSION_BASE
    )(job)
    try:
        command()
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):
            raise StorageError(f"the run's folder cannot be made or used: {error}") from error
        raise translate(error) from error
    finally:
        sys.argv = before
    if failures:
        raise failures[0]  # the others were told as they came


def _options_first(arguments: list[str]) -> list[str]:
    """Options before overrides: Hydra's parser does not take them mixed."""
    options, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        options.append(argument)
        if argument in _OPTIONS_WITH_VALUE:
            options.extend([value] if (value := next(rest, None)) is not None else [])
    return [*options, *overrides]


def _in_its_own_folder(arguments: list[str]) -> list[str]:
    """A resumed run goes on in its own folder; Hydra must not start another."""
    given = [a.partition("=")[2] for a in arguments if a.startswith("resume=")]
    if not given:
        return arguments
    resume = given[-1]
    if not resume:
        raise ConfigError("resume= names no folder: give the folder of a run, resume=RUN_DIR")
    if {"-m", "--multirun"} & set(arguments):
        raise ConfigError("resume goes on with one run: leave out --multirun")
    from qfl.federation.run_folder import RunFolder

    RunFolder.open(Path(resume))
    return [*arguments, f"hydra.run.dir='{resume}'", "hydra.output_subdir=null"]


def _kept_for_later(error: QflError) -> bool:
    """Whether this process reports the failure once Hydra is done.

    Hydra would print a line of its own, and end a sweep at its first failure; in a sweep the other
    jobs go on. Other launchers run jobs in processes of their own, where Hydra has to carry it.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = HydraConfig.get()
    if config.launcher._target_ != _BASIC_LAUNCHER:
        return False
    if config.mode == RunMode.MULTIRUN:
        print(f"qfl: job {config.job.num} failed: {error}", file=sys.stderr)
    return True


def _discard_if_unused() -> None:
    """Remove what Hydra made for a run that was refused before it began, and nothing else."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = HydraConfig.get()
    folder = Path(config.runtime.output_dir)
    if config.mode == RunMode.RUN and not (folder / "config.yaml").exists():
        if config.output_subdir:
            shutil.rmtree(folder / config.output_subdir, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / f"{config.job.name}.log").unlink(missing_ok=True)
            # Folders go when they are empty: they may be the user's own.
            folder.rmdir()
            for parent in folder.parents:
                if Path(config.runtime.cwd) not in parent.parents:
                    break
                parent.rmdir()


def _job(composed: Any) -> None:
    from hydra.core.hydra_config import HydraConfig

    from qfl.federation.compose import typed
    from qfl.federation.simulate import resumed_config, simulate

    hydra_config = HydraConfig.get()
    config = typed(composed)
    if config.resume:
        config = resumed_config(Path(config.resume), list(hydra_config.overrides.task))
    simulate(config, Path(hydra_config.runtime.output_dir))
