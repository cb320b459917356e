"""The strategy that sums protected updates and opens only sums.

Flower's contract is kept (``configure_train``, ``aggregate_train``, …). ``start`` is our own: it
adds to Flower's loop the steps of a scheme, polling without fixed sleeps, checkpoint and resume, a
convergence stop, and events for whoever watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from qfl.crypto import Layout, Step
from qfl.errors import BudgetSpentError, ConfigError, FederationError
from qfl.global_model import means_of
from qfl.identity.reputation import Reputation
from qfl.records import ARRAYS, CONFIG, arrays_of, record_of
from qfl.server_optimizer import FedAvg, ServerOptimizer, optimizer_to_json
from qfl.strategies.aggregation import Aggregation
from qfl.strategies.clock import Clock
from qfl.strategies.convergence import ConvergenceMonitor
from qfl.strategies.events import BudgetSpent, ClientsSelected, Countersigned, Event
from qfl.strategies.privacy import Privacy, check_budget, check_parts, rounds_allowed
from qfl.strategies.selection import SelectAll, SelectBySize, Selection
from qfl.strategies.session import Session
from qfl.strategies.setup import check_identities, describe, prepare_sums
from qfl.strategies.state import ServerState, first_state, next_state
from qfl.strategies.sums import Sums
from qfl.strategies.telling import floats, reply_teller, round_finished
from qfl.strategies.watch import Watch

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass
class SecureStrategy(Strategy):
    """Federated training over protected sums.

    Works with any ClientApp that carries :class:`qfl.clients.ProtectMod`.

    Attributes:
        aggregation: Scheme, weighting, range and key holder.
        selection: Who trains in a round.
        optimizer: What is done with the opened mean.
        convergence: When to stop early.
        privacy: What is promised to clients; under it no metrics are summed.
        metrics: Metrics that clients return from training and that are summed with the update.
        evaluate_metrics: Metrics of federated evaluation; none, no federated evaluation.
        reputation: How participants stand, where they prove who they are; unset, all well.
        anomalies: Whether what is visible of replies is scored for anomalies too.
        seed: Seed of the selection.
        observer: Called with every event.
        checkpoint: Called with the state after every round.

    Example:
        >>> strategy = SecureStrategy(Aggregation(scheme="ckks"))
        >>> strategy.aggregation.trust
        'key_holder'
    """

    aggregation: Aggregation = field(default_factory=Aggregation)
    selection: Selection = field(default_factory=SelectAll)
    optimizer: ServerOptimizer = field(default_factory=FedAvg)
    convergence: ConvergenceMonitor = field(default_factory=ConvergenceMonitor)
    privacy: Privacy = field(default_factory=Privacy)
    metrics: tuple[str, ...] = ()
    evaluate_metrics: tuple[str, ...] = ()
    reputation: Reputation | None = None
    anomalies: bool = False
    seed: int = 0
    observer: Callable[[Event], None] | None = None
    checkpoint: Callable[[ServerState], None] | None = None
    _sums: Sums | None = field(default=None, init=False, repr=False)
    _settled: bool = field(default=False, init=False, repr=False)
    _state: ServerState | None = field(default=None, init=False, repr=False)
    _sizes: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _step: Step | None = field(default=None, init=False, repr=False)
    _asked: int = field(default=0, init=False, repr=False)
    _failures: int = field(default=0, init=False, repr=False)
    _max_abs_error: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        metrics = (*self.metrics, *self.evaluate_metrics)
        check_parts(self.privacy, self.aggregation, self.selection, metrics)

    @property
    def session(self) -> Session:
        """The run's session.

        Raises:
            FederationError: :meth:`prepare` was not called.
        """
        return self.sums.session

    @property
    def sums(self) -> Sums:
        """The run's sums.

        Raises:
            FederationError: :meth:`prepare` was not called.
        """
        if self._sums is None:
            raise FederationError("the strategy has no session yet: call prepare or start first")
        return self._sums

    @property
    def blind(self) -> bool:
        """Whether the model is kept from the server."""
        return self.aggregation.release == "clients"

    def prepare(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        timeout: float = 3600,
        *,
        config: ConfigRecord | None = None,
        numbers: int = 0,
        rounds: int = 1,
    ) -> Sums:
        """Meet the clients, have keys made, count examples.

        Args:
            grid: Connection to the clients.
            initial_arrays: The model, for its layout.
            timeout: Seconds to wait in each step.
            config: Goes to clients with the questions asked here.
            numbers: Most numbers that :meth:`Sums.numbers` will be asked for.
            rounds: Rounds that a budget of differential privacy has to last for.
        """
        layout = Layout.of(arrays_of(initial_arrays))
        if self.aggregation.selective.by == "sensitivity":
            numbers = max(numbers, layout.length)
        metrics = max(len(self.metrics), len(self.evaluate_metrics))
        session = Session(grid, self.aggregation, timeout)
        if session.signed:
            check_identities(self.selection)
            self.reputation = self.reputation or Reputation()
            session.watch = Watch(
                session.signed,
                self.reputation,
                self._emit,
                plain=self.aggregation.scheme == "plain",
                anomalies=self.anomalies,
                seed=self.seed,
            )
        sums = prepare_sums(
            session, layout.length, metrics, numbers, config, self.privacy, rounds, self._emit
        )
        self._sums, self._settled = sums, False
        if isinstance(self.selection, SelectBySize):
            self._sizes = sums.session.ask_sizes({CONFIG: config or ConfigRecord()})
        return sums

    def _settle(self, initial_arrays: ArrayRecord, config: ConfigRecord | None) -> None:
        """Choose what is protected, hand the model over where it is kept, and say what holds."""
        if self._settled:
            return
        sums, layout = self.sums, Layout.of(arrays_of(initial_arrays))
        sums.choose(layout, {CONFIG: config or ConfigRecord(), ARRAYS: initial_arrays})
        if self.blind:
            sums.opener.adopt(initial_arrays, optimizer_to_json(self.optimizer))
        self._settled = True
        self._emit(describe(sums, layout, self.selection))

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
            ConfigError: The server should evaluate or resume a model that it does not see.
            FederationError: Too few usable replies in a step, or the key holder refused.
            StorageError: ``resume`` holds another model, or belongs to another optimizer.
        """
        if self.blind and (evaluate_fn or resume):
            raise ConfigError(
                "release=clients keeps the model from the server, which can neither evaluate it "
                "nor resume from it: name evaluate_metrics for federated evaluation, or use "
                "release=server"
            )
        self._state = first_state(arrays_of(initial_arrays), self.optimizer, resume)
        if self._sums is None:
            self.prepare(grid, initial_arrays, timeout, config=train_config, rounds=num_rounds)
        self._settle(initial_arrays, train_config)
        result = Result(arrays=record_of(self._state.arrays))
        try:
            if resume is None:
                self._evaluate_initial(result, initial_arrays, num_rounds, evaluate_fn)
                self._save()
            terms = self.session.terms
            allowed = rounds_allowed(self.sums.level(), terms)
            while self._state.round < num_rounds:
                if self.convergence.stops_after(self._state.losses):
                    break
                check_budget(self._state.round + 1, allowed, terms)
                self._round(result, grid, num_rounds, train_config, evaluate_config, evaluate_fn)
        except BudgetSpentError as error:
            result.arrays = record_of(self._state.arrays)
            self._emit(BudgetSpent(self._state.round + 1, str(error)))
        finally:
            # A key holder opens a round once, so another start is another run with keys of its own.
            self._sums = None
        return result

    def _evaluate_initial(
        self,
        result: Result,
        arrays: ArrayRecord,
        rounds: int,
        evaluate_fn: EvaluateFn | None,
    ) -> None:
        clock = Clock()
        held_out = evaluate_fn(0, arrays) if evaluate_fn else None
        if held_out is not None:
            result.evaluate_metrics_serverapp[0] = held_out
        self._failures, self._max_abs_error = 0, 0.0
        self._finished(0, rounds, 0, clock, floats(held_out))

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
        session, number, clock = self.session, self._state.round + 1, Clock()
        session.bytes_up = session.bytes_down = session.bytes_key_holder = 0
        self._failures = 0
        before = record_of(self._state.arrays)
        messages = self.configure_train(number, before, train_config or ConfigRecord(), grid)
        arrays, trained = self.aggregate_train(number, session.collect(messages))
        assert arrays is not None
        clock.lap("train", session.take_seconds_opening())
        for head, signed in session.signed.take_countersigned() if session.signed else ():
            self._emit(Countersigned(head, signed))
        metrics = floats(trained)
        contributed = int(metrics.pop("clients"))
        if trained is not None:
            result.train_metrics_clientapp[number] = trained
        messages = self.configure_evaluate(number, arrays, evaluate_config or ConfigRecord(), grid)
        evaluated = self.aggregate_evaluate(number, session.collect(messages))
        if evaluated is not None:
            result.evaluate_metrics_clientapp[number] = evaluated
            clock.lap("evaluate", session.take_seconds_opening())
        held_out = evaluate_fn(number, arrays) if evaluate_fn else None
        if held_out is not None:
            result.evaluate_metrics_serverapp[number] = held_out
            clock.lap("held_out")
        metrics |= floats(evaluated) | floats(held_out)
        losses = [*self._state.losses, metrics["loss"]] if "loss" in metrics else []
        result.arrays = ArrayRecord() if self.blind else arrays
        if session.watch:
            session.watch.end_round(number)
        norm = self.sums.adapted_norm
        self._state = ServerState(number, arrays_of(arrays), self._state.optimizer, losses, norm)
        # Records first: a resumed run drops those of rounds after its checkpoint, so a crash in
        # between loses nothing.
        self._finished(number, rounds, contributed, clock, metrics)
        self._save()

    def _save(self) -> None:
        assert self._state is not None
        if self.checkpoint and not self.blind:
            self.checkpoint(self._state)

    def _finished(
        self, number: int, rounds: int, clients: int, clock: Clock, metrics: dict[str, float]
    ) -> None:
        failed, off = self._failures, self._max_abs_error
        self._emit(
            round_finished(self.session, number, rounds, clients, failed, clock, off, metrics)
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the clients that train in this round."""
        if self._sums is None or self.session.grid is not grid:
            self.prepare(grid, arrays, config=config)
            self._settle(arrays, config)
            self._state = None if server_round == 1 else self._state
        model = arrays_of(arrays)
        last = self._state or first_state(model, self.optimizer)
        self._state = ServerState(server_round - 1, model, last.optimizer, last.losses)
        session = self.session
        connected = set(grid.get_node_ids())
        nodes = [node for node in session.clients if node in connected]
        able = session.watch.eligible(nodes) if session.watch else nodes
        chosen = self.selection.choose(able, server_round, self.seed, self._sizes)
        kept_out = tuple(sorted(set(nodes) - set(able)))
        self._emit(ClientsSelected(server_round, tuple(chosen), kept_out))
        self._step = session.step("train", server_round, metrics=self.metrics)
        self._asked = len(chosen)
        records = self.sums.records(arrays, config, server_round)
        length = self.sums.update_length + self.sums.numbers_length(self.metrics)
        return self.sums.ask(chosen, self._step, length, MessageType.TRAIN, records)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add updates as they arrive, have the sum opened, apply the server optimizer.

        Returns:
            The next global model (the initial one still, where clients alone learn the model),
            and the weighted means of the clients' metrics.
        """
        assert self._step is not None and self._state is not None
        step, last = self._step, self._state
        parameters = Layout.of(last.arrays).length
        tell = reply_teller(self.session, self._emit, server_round, self._asked)
        opened = self.sums.gather(replies, tell)
        count, level = opened.contributions, self.sums.level()
        self._failures += self._asked - count
        size = level.padded if level else parameters
        rest = self.sums.follow(opened.values if self.blind else opened.values[size:], count)
        means = means_of(rest, step.sums, count, f"round {step.round}, {step.label}")
        metrics = MetricRecord(dict(zip(self.metrics, means.metrics, strict=True)))
        metrics["clients"] = count
        if self.blind:
            return record_of(last.arrays), metrics
        weight = means.weight
        self._state, self._max_abs_error = next_state(
            last, opened, step, level, weight, self.optimizer
        )
        return record_of(self._state.arrays), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages for federated evaluation; none unless ``evaluate_metrics`` names any."""
        if not self.evaluate_metrics:
            return []
        session = self.session
        self._step = session.step("evaluate", server_round, metrics=self.evaluate_metrics)
        able = session.watch.eligible(session.clients) if session.watch else session.clients
        self._asked = len(able)
        records = self.sums.records(arrays, config, server_round)
        length = self.sums.numbers_length(self.evaluate_metrics)
        return self.sums.ask(able, self._step, length, MessageType.EVALUATE, records)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Weighted means of the clients' metrics, summed through the scheme."""
        if not self.evaluate_metrics:
            return None
        assert self._step is not None
        step = self._step
        opened = self.sums.gather(replies)
        self._failures += self._asked - opened.contributions
        what = f"round {step.round}, {step.label}"
        means = means_of(opened.values, step.sums, opened.contributions, what)
        return MetricRecord(dict(zip(self.evaluate_metrics, means.metrics, strict=True)))

    def summary(self) -> None:
        """Say what is in force through Flower's log."""
        log(INFO, "\tScheme: %s, trust: %s", self.aggregation.scheme, self.aggregation.trust)
        log(INFO, "\tAssumption: %s", self.aggregation.assumption)

    def _emit(self, event: Event) -> None:
        if self.observer:
            self.observer(event)
