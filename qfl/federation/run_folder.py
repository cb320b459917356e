"""The folder that a run leaves behind."""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qfl.conf.checks import from_dict, to_dict
from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Arrays
from qfl.errors import StorageError
from qfl.federation.audit_trail import AuditTrail
from qfl.federation.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from qfl.federation.experiment import Experiment
from qfl.federation.files import append_line, read_lines, write_atomic, write_json
from qfl.strategies import RoundFinished, ServerState

MODEL_FORMAT = 1


class RunFolder:
    """Writes and reads a run's records.

    Attributes:
        path: The folder.
        trail: Its audit records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trail = AuditTrail(path / "audit.jsonl")

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process alone, as long as the context lasts.

        Raises:
            StorageError: Another run is using it, or it cannot be written.
        """
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = lock.open("ab")
        except OSError as error:
            raise StorageError(f"cannot write to {self.path}: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StorageError(
                    f"{self.path} is in use by another run: wait until it ends, or choose another "
                    "folder with hydra.run.dir=…"
                ) from None
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
                with suppress(OSError):
                    self.path.rmdir()  # only goes when a refused run left it empty

    def refuse_used(self) -> None:
        """Refuse to mix the records of two runs.

        Raises:
            StorageError: The folder holds a run already.
        """
        if (self.path / "config.yaml").exists():
            raise StorageError(
                f"{self.path} holds a run already: go on with resume={self.path}, or choose "
                "another folder with hydra.run.dir=…"
            )

    def write_config(self, config: ExperimentConfig) -> None:
        """Write the resolved configuration; a resumed run may have another ``rounds``."""
        import yaml

        text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
        write_atomic(self.path / "config.yaml", text)

    @staticmethod
    def open(path: Path) -> tuple[RunFolder, ExperimentConfig]:
        """Open the folder of an earlier run.

        Raises:
            StorageError: It is no run folder, or cannot be read.
            ConfigError: Its configuration is not of this version.
        """
        import yaml

        file = path / "config.yaml"
        try:
            data = yaml.safe_load(file.read_text())
        except FileNotFoundError:
            raise StorageError(f"{path} is no run folder: it holds no config.yaml") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise StorageError(f"cannot read {file}: {error}") from None
        return RunFolder(path), from_dict(data)

    def save_checkpoint(self, state: ServerState) -> None:
        """Write the state after a round."""
        save_checkpoint(self.path / "checkpoints", state)

    def latest_state(self) -> ServerState:
        """The state of the newest checkpoint."""
        return load_checkpoint(newest_checkpoint(self.path / "checkpoints"))

    def record_round(self, run: str, event: RoundFinished) -> None:
        """One line per metric."""
        values: dict[str, float] = {
            **event.metrics,
            "clients": event.clients,
            "failures": event.failures,
            "bytes_up": event.bytes_up,
            "bytes_down": event.bytes_down,
            "bytes_key_holder": event.bytes_key_holder,
            "seconds": event.seconds,
            "max_abs_error": event.max_abs_error,
            **{f"seconds_{phase}": seconds for phase, seconds in event.phases.items()},
        }
        for metric, value in values.items():
            line = {"run": run, "round": event.round, "metric": metric, "value": value}
            append_line(self.path / "metrics.jsonl", line)

    def forget_rounds_after(self, last: int) -> None:
        """Drop metrics of rounds that a resumed run will do again, and of baselines."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        kept = [
            line for line in read_lines(file) if line["run"] == "main" and line["round"] <= last
        ]
        write_atomic(file, "".join(json.dumps(line) + "\n" for line in kept))

    def rounds(self, run: str = "main") -> dict[int, dict[str, float]]:
        """Metrics of a run by round."""
        found: dict[int, dict[str, float]] = {}
        file = self.path / "metrics.jsonl"
        for line in read_lines(file) if file.exists() else []:
            if line["run"] == run:
                found.setdefault(line["round"], {})[line["metric"]] = line["value"]
        return found

    def audit(self, event: str, **details: Any) -> None:
        """Put a decision on record, signed and chained to the record before."""
        self.trail.append(event, details)

    def save_model(self, experiment: Experiment, arrays: Arrays, round: int) -> None:
        """The trained model, and what is needed to use it."""
        from safetensors.numpy import save

        data = save(arrays)
        # Each client's own, exact: under differential privacy they stay with it.
        asked = experiment.config
        stays = asked.privacy.mechanism != "none" and asked.preprocess.fit == "local"
        write_atomic(self.path / "model.safetensors", data)
        statistics = [
            {
                "mean": entry.mean.tolist(),
                "scale": entry.scale.tolist(),
                "components": None if entry.components is None else entry.components.tolist(),
                "target_mean": entry.target_mean,
                "target_scale": entry.target_scale,
            }
            for entry in ([] if stays else experiment.statistics)
        ]
        config = to_dict(experiment.config)
        write_json(
            self.path / "model.json",
            {
                "format": MODEL_FORMAT,
                "model": config["model"],
                "quantum": config["quantum"],
                "shape": asdict(experiment.shape),
                "task": experiment.task,
                "classes": list(experiment.dataset.classes),
                "statistics": statistics,
                "round": round,
                "sha256": hashlib.sha256(data).hexdigest(),
                "versions": versions(),
            },
        )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("qfl", "flwr", "torch", "pennylane", "tenseal", "numpy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
