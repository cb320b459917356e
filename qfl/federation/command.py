"""``qfl simulate``: Hydra's command line around :func:`qfl.simulate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from qfl.federation.compose import CONFIG_NAME, VERSION_BASE, register_schemas, translate


def run_simulate(arguments: list[str]) -> None:
    """Run Hydra with these arguments.

    Raises:
        QflError: What was refused, or failed.
        KeyboardInterrupt: The run was interrupted.
    """
    import hydra

    register_schemas()
    resume = next((a.partition("=")[2] for a in arguments if a.startswith("resume=")), None)
    if resume:
        # The run goes on in its own folder; Hydra must not start another.
        arguments = [*arguments, f"hydra.run.dir='{resume}'", "hydra.output_subdir=null"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's own printer
    before = sys.argv
    sys.argv = ["qfl simulate", *arguments]
    try:
        hydra.main(
            config_path="pkg://qfl.conf", config_name=CONFIG_NAME, version_base=VERSION_BASE
        )(_job)()
    except Exception as error:
        raise translate(error) from error
    finally:
        sys.argv = before


def _job(composed: Any) -> None:
    from hydra.core.hydra_config import HydraConfig

    from qfl.federation.compose import typed
    from qfl.federation.simulate import resumed_config, simulate

    hydra_config = HydraConfig.get()
    config = typed(composed)
    if config.resume:
        config = resumed_config(Path(config.resume), list(hydra_config.overrides.task))
    simulate(config, Path(hydra_config.runtime.output_dir))
