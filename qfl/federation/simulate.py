"""A whole experiment on this machine: the run, its baselines, its records, its report."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from qfl.conf.checks import check
from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Arrays
from qfl.errors import ConfigError, StorageError
from qfl.federation import summary as summaries
from qfl.federation.audit_events import audit_record
from qfl.federation.baselines import plain_config, plain_title, pooled, twin_config
from qfl.federation.display import RoundsDisplay
from qfl.federation.engine import Watchers, run_federation
from qfl.federation.experiment import Experiment
from qfl.federation.files import write_json
from qfl.federation.privacy_record import LEDGER, PrivacyRecord
from qfl.federation.run_folder import RunFolder
from qfl.identity.countersigning import Head
from qfl.strategies import BudgetSpent, Event, RoundFinished, ServerState, SetupFinished


def simulate(
    config: ExperimentConfig,
    run_dir: str | Path | None = None,
    *,
    console: Console | None = None,
    report: bool = True,
) -> dict[str, Any]:
    """Run an experiment.

    Args:
        config: From :func:`qfl.load_config`. With ``resume`` set, the run in that folder goes on.
        run_dir: Where records go; unset, ``outputs/<experiment>/<time>``.
        console: Where progress is shown; unset, standard output.
        report: Whether to write ``report.html`` at the end.

    Returns:
        The content of ``summary.json``; its ``path`` is the run folder.

    Raises:
        QflError: Something was refused or failed; see :mod:`qfl.errors`.
        KeyboardInterrupt: The run was interrupted; the folder can be resumed.
    """
    check(config)
    console = console or Console()
    _pin_threads()
    _quiet_logs()
    path = config.resume or run_dir
    folder = RunFolder(Path(path) if path else _unused_path(config.name))
    if config.resume:
        RunFolder.open(folder.path)
    with folder.claimed():
        state: ServerState | None = None
        if config.resume:
            state, config = _reopen(folder, config)
        else:
            folder.refuse_used()
        experiment = Experiment.prepare(config)
        if state is not None:
            _check_same_model(experiment, state, folder.path)
            folder.trail.check()
            folder.forget_rounds_after(state.round)
        folder.write_config(config)
        return _Run(experiment, folder, console, state).execute(report)


class _Run:
    """One execution of an experiment, with the records that it leaves."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        console: Console,
        state: ServerState | None,
    ) -> None:
        self.experiment, self.folder, self.console, self.state = experiment, folder, console, state
        self.setup: SetupFinished | None = None
        self.privacy = PrivacyRecord(experiment.config, folder.path / LEDGER)
        self.budget_spent: str | None = None
        self.finished: RoundFinished | None = None
        self.baseline: dict[str, Any] = {}
        self.started = time.perf_counter()

    def execute(self, report: bool) -> dict[str, Any]:
        """Train, compare, write; what is there is written even if the run is cut short."""
        config, folder = self.experiment.config, self.folder
        folder.audit(
            "run_resumed" if self.state else "run_started",
            experiment=config.name,
            seed=config.seed,
            from_round=self.state.round if self.state else 0,
            config=hashlib.sha256((folder.path / "config.yaml").read_bytes()).hexdigest(),
        )
        try:
            arrays = self._main()
            self._baselines()
        except KeyboardInterrupt:
            self._close("interrupted", "Ctrl-C")
            raise
        except Exception as error:
            self._close("failed", str(error) or type(error).__name__)
            raise
        rounds = folder.rounds()
        last = max(rounds)
        if arrays:
            folder.save_model(self.experiment, arrays, last)
        found = summaries.evaluation(self.experiment, arrays) if arrays else None
        if found is not None:
            write_json(folder.path / "evaluation.json", found)
        status = "finished" if last >= config.rounds else "converged"
        if self.budget_spent:
            status = "budget_spent"
            self.console.print(f"Stopped: {self.budget_spent}.", highlight=False)
        summary = self._close(status, self.budget_spent)
        summaries.print_comparison(summary, self.console)
        if report:
            from qfl.federation.report import write_report

            page = write_report(folder.path)
            self.console.print(f"Report: {page}", highlight=False, soft_wrap=True)
        return {**summary, "path": str(folder.path)}

    def _main(self) -> Arrays:
        config, folder = self.experiment.config, self.folder
        title = f"{config.name}: {config.model.name} on {config.dataset.name}"
        task, private = self.experiment.task, config.privacy.mechanism != "none"
        with RoundsDisplay(task, config.rounds, self.console, title, private=private) as display:

            def tell(event: Event) -> None:
                event = self._with_epsilon(event)
                display.tell(event)
                if record := audit_record(event):
                    name, details = record
                    folder.audit(name, **details)
                if isinstance(event, SetupFinished):
                    self.setup = event
                elif isinstance(event, RoundFinished):
                    folder.record_round("main", event)
                    self.finished = event
                    if config.strategy.release == "clients":
                        self._audit_round(None)
                elif isinstance(event, BudgetSpent):
                    self.budget_spent = event.reason

            def keep(state: ServerState) -> None:
                # On record first: a crash in between shows as a round that was done twice.
                self._audit_round(state.arrays)
                folder.save_checkpoint(state)

            watchers = Watchers(tell, keep, self._head)
            return run_federation(self.experiment, watchers, self.state, self.privacy.path)

    def _head(self) -> Head | None:
        """What clients countersign as they train: in the first and last round, and each tenth."""
        coming = self.finished.round + 1 if self.finished else 1
        last = self.experiment.config.rounds
        return self.folder.trail.head() if coming in (1, last) or coming % 10 == 0 else None

    def _audit_round(self, arrays: Arrays | None) -> None:
        """Put a round on record, with the digest that a file of its model would have."""
        from safetensors.numpy import save

        event = self.finished
        assert event is not None
        details: dict[str, Any] = {"round": event.round, "clients": event.clients}
        if "epsilon" in event.metrics:
            details["epsilon"] = event.metrics["epsilon"]
        if place := self.privacy.place:
            details["ledger"] = asdict(place)
        if arrays is not None:
            details["model"] = hashlib.sha256(save(arrays)).hexdigest()
        self.folder.audit("round_finished", **details)

    def _with_epsilon(self, event: Event) -> Event:
        """A round together with what was spent up to it."""
        if (
            not isinstance(event, RoundFinished)
            or (epsilon := self.privacy.epsilon(event.round)) is None
        ):
            return event
        return replace(event, metrics={**event.metrics, "epsilon": epsilon})

    def _baselines(self) -> None:
        config = self.experiment.config
        wanted = {
            "plain": plain_config(config)
            if config.baselines.plain and plain_title(config)
            else None,
            "twin": twin_config(config) if config.baselines.twin else None,
        }
        for run, other in wanted.items():
            if other is not None:
                self.baseline[run] = self._baseline(run, other)
        if config.baselines.pooled:
            self.baseline["pooled"] = pooled(self.experiment)

    def _baseline(self, run: str, config: ExperimentConfig) -> dict[str, Any]:
        experiment = Experiment.prepare(config)
        title = {"plain": plain_title(self.experiment.config), "twin": "its classical twin"}[run]
        console = self.console
        with RoundsDisplay(
            experiment.task, config.rounds, console, title, detailed=False
        ) as display:

            def tell(event: Event) -> None:
                display.tell(event)
                if isinstance(event, RoundFinished):
                    self.folder.record_round(run, event)

            arrays = run_federation(experiment, Watchers(tell))
        metrics, _ = experiment.evaluate(arrays, experiment.dataset.test)
        about = {"name": config.model.name, "title": title}
        return {**about, "parameters": experiment.parameters, **metrics}

    def _close(self, status: str, reason: str | None) -> dict[str, Any]:
        self.folder.audit("run_" + status, reason=reason)
        summary = summaries.summarize(
            self.experiment,
            self.folder,
            self.setup,
            self.privacy.summary(),
            status=status,
            reason=reason,
            baseline=self.baseline,
            seconds=time.perf_counter() - self.started,
        )
        write_json(self.folder.path / "summary.json", summary)
        return summary


def _unused_path(name: str) -> Path:
    stamp = Path("outputs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")
    others = (stamp.with_name(f"{stamp.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([stamp], others) if not path.exists())


def _reopen(folder: RunFolder, config: ExperimentConfig) -> tuple[ServerState, ExperimentConfig]:
    _, saved = RunFolder.open(folder.path)
    state = folder.latest_state()
    return state, replace(saved, rounds=max(config.rounds, state.round))


def resumed_config(path: Path, overrides: Sequence[str]) -> ExperimentConfig:
    """The configuration of an earlier run, to go on with.

    Args:
        path: Its folder.
        overrides: What the command line changes; only ``rounds`` may change.

    Raises:
        StorageError: The folder is no run folder.
        ConfigError: Something else is changed.
    """
    _, saved = RunFolder.open(path)
    rounds = saved.rounds
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "rounds" and value.isdigit() and int(value) > 0:
            rounds = int(value)
        elif key != "resume" and not key.startswith("hydra."):
            raise ConfigError(
                f"{override} is not allowed with resume: the run goes on with its own "
                "configuration; only rounds=N may change"
            )
    return replace(saved, resume=str(path), rounds=rounds)


def _check_same_model(experiment: Experiment, state: ServerState, path: Path) -> None:
    ours = {name: array.shape for name, array in experiment.initial.items()}
    theirs = {name: array.shape for name, array in state.arrays.items()}
    if ours != theirs:
        differs = sorted(set(ours.items()) ^ set(theirs.items()))[0][0]
        raise StorageError(
            f"the checkpoint in {path} belongs to another model: '{differs}' has shape "
            f"{theirs.get(differs, 'nothing')}, model {experiment.config.model.name} has "
            f"{ours.get(differs, 'nothing')}"
        )


def _pin_threads() -> None:
    """One thread per client: results must not depend on how sums are split over threads."""
    import torch

    torch.set_num_threads(1)


def _quiet_logs() -> None:
    """The display says what a client's failure was; logs need not repeat it."""
    for name in ("flwr", "alembic", "ray"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("qfl.federation.local_grid").setLevel(logging.ERROR)
