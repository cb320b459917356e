"""The strategy that sums protected updates and opens only sums.

Flower's contract is kept (``configure_train``, ``aggregate_train``, …). ``start`` is our own: it
adds to Flower's loop the steps of a scheme, polling without fixed sleeps, checkpoint and resume, a
convergence stop, and events for whoever watches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from logging import INFO
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from qfl.crypto import Arrays, IntVector, Layout, Step, SumRange, from_grid, from_limbs, make_scheme
from qfl.errors import FederationError, StorageError
from qfl.records import ARRAYS, CONFIG, arrays_of, record_of
from qfl.strategies.convergence import ConvergenceMonitor
from qfl.strategies.events import ClientReplied, Event, RoundFinished, SetupFinished
from qfl.strategies.selection import SelectAll, SelectBySize, Selection
from qfl.strategies.server_optimizer import FedAvg, ServerOptimizer
from qfl.strategies.session import Aggregation, Session
from qfl.strategies.state import ServerState

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]

ASSUMPTIONS = {
    "none": "the server reads every update",
    "key_holder": "server and key holder do not collude; the server adds honestly; "
    "honest-but-curious only, because no identities are configured",
}


@dataclass
class SecureStrategy(Strategy):
    """Federated training over protected sums.

    Works with any ClientApp that carries :class:`qfl.clients.ProtectMod`.

    Attributes:
        aggregation: Scheme, weighting, range and key holder.
        selection: Who trains in a round.
        optimizer: What is done with the opened mean.
        convergence: When to stop early.
        metrics: Metrics that clients return from training and that are summed with the update.
        evaluate_metrics: Metrics of federated evaluation; none, no federated evaluation.
        seed: Seed of the selection.
        observer: Called with every event.
        checkpoint: Called with the state after every round.

    Example:
        >>> strategy = SecureStrategy(Aggregation(scheme="ckks"))
        >>> strategy.trust
        'key_holder'
    """

    aggregation: Aggregation = field(default_factory=Aggregation)
    selection: Selection = field(default_factory=SelectAll)
    optimizer: ServerOptimizer = field(default_factory=FedAvg)
    convergence: ConvergenceMonitor = field(default_factory=ConvergenceMonitor)
    metrics: tuple[str, ...] = ()
    evaluate_metrics: tuple[str, ...] = ()
    seed: int = 0
    observer: Callable[[Event], None] | None = None
    checkpoint: Callable[[ServerState], None] | None = None
    _session: Session | None = field(default=None, init=False, repr=False)
    _state: ServerState | None = field(default=None, init=False, repr=False)
    _sizes: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _step: Step | None = field(default=None, init=False, repr=False)
    _asked: int = field(default=0, init=False, repr=False)
    _failures: int = field(default=0, init=False, repr=False)
    _max_abs_error: float = field(default=0.0, init=False, repr=False)

    @property
    def trust(self) -> str:
        """Who can open a sum; ``none`` where the scheme has no keys and the server reads all."""
        made = self.aggregation
        sums = SumRange(made.grid_bits, made.bound, made.min_clients)
        return "key_holder" if make_scheme(made.scheme, 1, sums).has_keys else "none"

    @property
    def session(self) -> Session:
        """The run's session.

        Raises:
            FederationError: :meth:`prepare` was not called.
        """
        if self._session is None:
            raise FederationError("the strategy has no session yet: call prepare or start first")
        return self._session

    def prepare(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        timeout: float = 3600,
        *,
        config: ConfigRecord | None = None,
        numbers: int = 0,
    ) -> Session:
        """Meet the clients, have keys made, count examples.

        Args:
            grid: Connection to the clients.
            initial_arrays: The model, for its layout.
            timeout: Seconds to wait in each step.
            config: Goes to clients with the questions asked here.
            numbers: Most numbers that :meth:`Session.sum_numbers` will be asked for.
        """
        session = Session(grid, self.aggregation, timeout)
        asked = {CONFIG: config or ConfigRecord()}
        session.meet()
        layout = Layout.of(arrays_of(initial_arrays))
        metrics = max(len(self.metrics), len(self.evaluate_metrics))
        limbs = session.sums.limbs
        session.make_keys(max(layout.length + 1 + metrics * limbs, numbers * limbs, limbs))
        if self.aggregation.weighting == "examples":
            total = session.sum_numbers("query.count", "count", 1, asked)
            session.examples = int(total[0])
            if session.examples < 1:
                raise FederationError("the clients hold no examples at all")
        self._session = session
        notes = [f"left out: {problem}" for problem in session.problems]
        if isinstance(self.selection, SelectBySize):
            self._sizes = session.ask_sizes(asked)
            notes.append("selection by size: the server knows every client's number of examples")
        if self.aggregation.weighting == "examples" and not isinstance(self.selection, SelectAll):
            notes.append(
                "rounds of different clients: from their summed weights the server can work out "
                "every client's number of examples; weighting=uniform avoids that"
            )
        holder = session.key_holder
        if holder is not None and holder in session.clients:
            notes.append(f"key holder {holder} also trains")
            if self.aggregation.min_clients < 3:
                notes.append(
                    "a key holder that trains reads the other update in a sum of two: set "
                    "min_clients=3 or more, or give one node the role key-holder"
                )
        self._emit(
            SetupFinished(
                clients=len(session.clients),
                scheme=self.aggregation.scheme,
                trust=self.trust,
                assumption=ASSUMPTIONS[self.trust],
                opened_by="server" if holder is None else f"key holder (node {holder})",
                key_id=session.key_id,
                examples=session.examples,
                parameters=layout.length,
                notes=tuple(notes),
            )
        )
        return session

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
        *,
        resume: ServerState | None = None,
    ) -> Result:
        """Run the federation.

        Args:
            grid: Connection to the clients.
            initial_arrays: The initial model.
            num_rounds: Last round.
            timeout: Seconds to wait for replies in a step.
            train_config: Goes to clients with every training message.
            evaluate_config: Goes to clients with every evaluation message.
            evaluate_fn: Held-out evaluation at the server; a metric ``loss`` feeds the
                convergence monitor.
            resume: State to continue from; ``initial_arrays`` then only gives the layout.

        Returns:
            Flower's result: final arrays and metrics by round.

        Raises:
            FederationError: Too few usable replies in a step, or the key holder refused.
            StorageError: ``resume`` holds another model, or belongs to another optimizer.
        """
        initial = arrays_of(initial_arrays)
        fresh = ServerState(0, initial, self.optimizer.init(Layout.of(initial).length))
        self._state = resume or fresh
        if Layout.of(self._state.arrays) != Layout.of(initial):
            raise StorageError("the state to resume from belongs to another model")
        if set(self._state.optimizer) != set(fresh.optimizer):
            raise StorageError("the state to resume from belongs to another server optimizer")
        if self._session is None:
            self.prepare(grid, initial_arrays, timeout, config=train_config)
        result = Result(arrays=record_of(self._state.arrays))
        try:
            if resume is None:
                self._evaluate_initial(result, initial_arrays, num_rounds, evaluate_fn)
                if self.checkpoint:
                    self.checkpoint(self._state)
            while self._state.round < num_rounds:
                if self.convergence.stops_after(self._state.losses):
                    break
                self._round(result, grid, num_rounds, train_config, evaluate_config, evaluate_fn)
        finally:
            # A key holder opens a round once, so another start is another run with keys of its own.
            self._session = None
        return result

    def _evaluate_initial(
        self,
        result: Result,
        arrays: ArrayRecord,
        rounds: int,
        evaluate_fn: EvaluateFn | None,
    ) -> None:
        started = time.perf_counter()
        held_out = evaluate_fn(0, arrays) if evaluate_fn else None
        if held_out is not None:
            result.evaluate_metrics_serverapp[0] = held_out
        self._failures, self._max_abs_error = 0, 0.0
        self._finished(0, rounds, 0, started, _floats(held_out))

    def _round(
        self,
        result: Result,
        grid: Grid,
        rounds: int,
        train_config: ConfigRecord | None,
        evaluate_config: ConfigRecord | None,
        evaluate_fn: EvaluateFn | None,
    ) -> None:
        assert self._state is not None
        session, number, started = self.session, self._state.round + 1, time.perf_counter()
        session.bytes_up = session.bytes_down = session.bytes_key_holder = 0
        self._failures = 0
        before = record_of(self._state.arrays)
        messages = self.configure_train(number, before, train_config or ConfigRecord(), grid)
        arrays, trained = self.aggregate_train(number, session.collect(messages))
        assert arrays is not None
        metrics = _floats(trained)
        contributed = int(metrics.pop("clients"))
        if trained is not None:
            result.train_metrics_clientapp[number] = trained
        messages = self.configure_evaluate(number, arrays, evaluate_config or ConfigRecord(), grid)
        evaluated = self.aggregate_evaluate(number, session.collect(messages))
        if evaluated is not None:
            result.evaluate_metrics_clientapp[number] = evaluated
        held_out = evaluate_fn(number, arrays) if evaluate_fn else None
        if held_out is not None:
            result.evaluate_metrics_serverapp[number] = held_out
        metrics |= _floats(evaluated) | _floats(held_out)
        losses = [*self._state.losses, metrics["loss"]] if "loss" in metrics else []
        result.arrays = arrays
        self._state = ServerState(number, arrays_of(arrays), self._state.optimizer, losses)
        # Records first: a resumed run drops those of rounds after its checkpoint, so a crash in
        # between loses nothing.
        self._finished(number, rounds, contributed, started, metrics)
        if self.checkpoint:
            self.checkpoint(self._state)

    def _finished(
        self, number: int, rounds: int, clients: int, started: float, metrics: dict[str, float]
    ) -> None:
        session = self.session
        self._emit(
            RoundFinished(
                round=number,
                rounds=rounds,
                clients=clients,
                failures=self._failures,
                bytes_up=session.bytes_up,
                bytes_down=session.bytes_down,
                bytes_key_holder=session.bytes_key_holder,
                seconds=time.perf_counter() - started,
                max_abs_error=self._max_abs_error,
                metrics=metrics,
            )
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the clients that train in this round."""
        if self._session is None or self._session.grid is not grid:
            self.prepare(grid, arrays, config=config)
            self._state = None if server_round == 1 else self._state
        model, last = arrays_of(arrays), self._state
        if last is None:
            last = ServerState(0, model, self.optimizer.init(Layout.of(model).length))
        self._state = ServerState(server_round - 1, model, last.optimizer, last.losses)
        session = self.session
        connected = set(grid.get_node_ids())
        nodes = [node for node in session.clients if node in connected]
        chosen = self.selection.choose(nodes, server_round, self.seed, self._sizes)
        self._step = session.step("train", server_round, metrics=self.metrics)
        self._asked = len(chosen)
        return session.messages(
            chosen, self._step, MessageType.TRAIN, _records(arrays, config, server_round)
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add updates as they arrive, have the sum opened, apply the server optimizer.

        Returns:
            The next global model, and the weighted means of the clients' metrics.
        """
        assert self._step is not None and self._state is not None
        session, model = self.session, self._state.arrays
        layout, sums = Layout.of(model), session.sums
        length = layout.length + 1 + len(self.metrics) * sums.limbs
        opened = session.sum(replies, self._step, length, self._on_reply(server_round))
        self._failures += self._asked - opened.contributions
        steps = opened.values
        weight = steps[layout.length : layout.length + 1]
        total = _total_weight(weight, self._step, opened.contributions)
        mean = from_grid(steps[: layout.length], sums) / total
        self._max_abs_error = _rounding_error(opened.contributions, sums.step, total, mean)
        flat = layout.flatten(model)
        optimizer, flat = self.optimizer.apply(self._state.optimizer, mean, flat)
        arrays: Arrays = layout.unflatten(flat, model)
        self._state = ServerState(self._state.round, arrays, optimizer, self._state.losses)
        means = from_limbs(steps[layout.length + 1 :], sums) / total
        metrics = dict(zip(self.metrics, means.tolist(), strict=True))
        return record_of(arrays), MetricRecord({**metrics, "clients": opened.contributions})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages for federated evaluation; none unless ``evaluate_metrics`` names any."""
        if not self.evaluate_metrics:
            return []
        session = self.session
        self._step = session.step("evaluate", server_round, metrics=self.evaluate_metrics)
        self._asked = len(session.clients)
        return session.messages(
            session.clients,
            self._step,
            MessageType.EVALUATE,
            _records(arrays, config, server_round),
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Weighted means of the clients' metrics, summed through the scheme."""
        if not self.evaluate_metrics:
            return None
        assert self._step is not None
        session, sums = self.session, self.session.sums
        length = 1 + len(self.evaluate_metrics) * sums.limbs
        opened = session.sum(replies, self._step, length)
        self._failures += self._asked - opened.contributions
        total = _total_weight(opened.values[:1], self._step, opened.contributions)
        means = from_limbs(opened.values[1:], sums) / total
        return MetricRecord(dict(zip(self.evaluate_metrics, means.tolist(), strict=True)))

    def summary(self) -> None:
        """Say what is in force through Flower's log."""
        log(INFO, "\tScheme: %s, trust: %s", self.aggregation.scheme, self.trust)
        log(INFO, "\tAssumption: %s", ASSUMPTIONS[self.trust])

    def _on_reply(self, round: int) -> Callable[[Message, str | None], None]:
        replied = 0

        def tell(reply: Message, problem: str | None) -> None:
            nonlocal replied
            replied += 1
            node = self.session.node_of(reply)
            self._emit(ClientReplied(round, node, replied, self._asked, problem))

        return tell

    def _emit(self, event: Event) -> None:
        if self.observer:
            self.observer(event)


def _records(arrays: ArrayRecord, config: ConfigRecord, round: int) -> dict[str, Any]:
    return {ARRAYS: arrays, CONFIG: ConfigRecord({**config, "server-round": round})}


def _floats(record: MetricRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    return {k: float(v) for k, v in record.items() if isinstance(v, int | float)}


def _total_weight(steps: IntVector, step: Step, contributions: int) -> float:
    total = float(from_grid(steps, step.sums)[0])
    if total <= 0:
        raise FederationError(
            f"round {step.round}, {step.label}: the weights of {contributions} replies add up to "
            "0; do the clients hold any examples?"
        )
    return total


def _rounding_error(count: int, step: float, total: float, mean: np.ndarray) -> float:
    """Each update and each weight is off by at most half a step."""
    largest, off = float(np.abs(mean).max(initial=0.0)), count * step / 2
    return off * (1 + largest) / (total - off) if total > off else np.inf
