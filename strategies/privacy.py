"""Differential privacy as a part of a strategy: what is promised, and for how many rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qfl.errors import BudgetSpentError, ConfigError, PrivacyError
from qfl.privacy import (
    CLIENT_LEVEL,
    Charge,
    ClientLevel,
    Terms,
    noise_multiplier_for,
    rounds_within,
)
from qfl.strategies.aggregation import Aggregation
from qfl.strategies.selection import SelectBySize, Selection
from qfl.strategies.session import Session

ADAPTS_UP_TO = 4  # times the first clipping norm
LARGEST_BOUND = 64


@dataclass(frozen=True)
class Privacy:
    """What each round promises the clients.

    Attributes:
        mechanism: ``none``; ``dpsgd``, which the clients' app has to do in training;
            ``central``, ``distributed`` or ``local``, which every ClientApp with our mod does.
        epsilon: Budget of each client's data; None, no budget.
        delta: Of the budget.
        noise_multiplier: Client level: standard deviation of the noise over the sensitivity; None,
            the smallest with which all rounds stay within the budget.
        clipping_norm: Largest L2 norm of an update.
        noise: Client level: ``discrete_gaussian`` or ``skellam``.
        colluders: ``distributed``: clients whose noise does not count.
        count_noise: Client level: standard deviation of the noise on the count of unclipped
            updates, which the clipping norm then follows, up to four times the first; None, it
            stays.
        target_quantile: Share of updates that shall lie below that norm.
        clipping_lr: How fast it follows.
        accountant: ``auto``, ``prv`` or ``rdp``.

    Example:
        >>> Privacy("central", noise_multiplier=1.0, epsilon=None).protects
        'client'
    """

    mechanism: str = "none"
    epsilon: float | None = 8.0
    delta: float = 1e-5
    noise_multiplier: float | None = None
    clipping_norm: float = 1.0
    noise: str = "discrete_gaussian"
    colluders: int = 0
    count_noise: float | None = None
    target_quantile: float = 0.5
    clipping_lr: float = 0.2
    accountant: str = "auto"

    @property
    def protects(self) -> str:
        """Whose presence cannot be told: ``record``, ``client``, or ``nobody``."""
        if self.mechanism == "none":
            return "nobody"
        return "client" if self.mechanism in CLIENT_LEVEL else "record"

    def terms(self, made: Aggregation, length: int, clients: int, rounds: int) -> Terms | None:
        """The terms of the first round; None without differential privacy.

        Args:
            made: How updates are summed.
            length: Parameters.
            clients: Clients of the run.
            rounds: Rounds that the budget has to last for, where the noise follows from it.

        Raises:
            PrivacyError: No noise is enough, or none would be left beside the colluders'.
        """
        if self.mechanism == "none":
            return None
        known = self.noise_multiplier
        if self.protects == "client" and known is None:
            if self.epsilon is None:
                raise PrivacyError(
                    "Privacy has neither noise_multiplier nor epsilon: one of them has to say how "
                    "much noise there is"
                )

            def charges_of(noise_multiplier: float) -> list[Charge]:
                level = level_of(self._terms(noise_multiplier, rounds), made, length, clients, "")
                return [level.charge()] * rounds

            known = noise_multiplier_for(self.epsilon, self.delta, charges_of, self.accountant)
        return self._terms(known or 0.0, rounds)

    def _terms(self, noise_multiplier: float, rounds: int) -> Terms:
        adapts = self.count_noise is not None
        return Terms(
            mechanism=self.mechanism,
            noise=self.noise,
            noise_multiplier=noise_multiplier,
            clipping_norm=self.clipping_norm,
            largest_norm=self.clipping_norm * (ADAPTS_UP_TO if adapts else 1),
            count_noise=self.count_noise or 0.0,
            target_quantile=self.target_quantile,
            clipping_lr=self.clipping_lr,
            colluders=self.colluders,
            rounds=rounds,
            epsilon=self.epsilon or 0.0,
            delta=self.delta,
            accountant=self.accountant,
        )


def check_parts(
    privacy: Privacy, made: Aggregation, selection: Selection, metrics: tuple[str, ...]
) -> None:
    """Refuse parts of a strategy by which something would leave clients without noise.

    Raises:
        ConfigError: Names them.
    """
    if privacy.mechanism == "none":
        return
    wrong = ""
    if metrics:
        wrong = (
            f"metrics {', '.join(metrics)}: they would be released without noise; leave metrics "
            "and evaluate_metrics empty"
        )
    elif isinstance(selection, SelectBySize) or made.weighting != "uniform":
        wrong = (
            "a selection or weighting by size: it would tell how many examples clients hold; "
            "choose another selection, and weighting=uniform"
        )
    elif made.selective.by == "sensitivity":
        wrong = "selective=sensitivity: sensitivities of clients' data would be released"
    elif made.selective.by != "all" and privacy.protects == "client":
        wrong = f"selective={made.selective.by}: parameters in the clear would carry no noise"
    elif privacy.mechanism == "distributed" and made.scheme == "plain":
        wrong = "scheme plain: the server would read every update with a share of the noise"
    if wrong:
        raise ConfigError(f"privacy={privacy.mechanism} with {wrong}")


def level_of(terms: Terms, made: Aggregation, length: int, clients: int, place: str) -> ClientLevel:
    """What the terms mean for an update; see :meth:`Terms.level`."""
    return terms.level(
        length=length,
        clients=clients,
        min_clients=made.min_clients,
        fraction_bits=made.grid_bits,
        place=place,
    )


def settle(session: Session, privacy: Privacy, length: int, rounds: int) -> None:
    """Fix the terms of a run, and make its sums as wide as updates with their noise are.

    Args:
        session: Whose clients are known.
        privacy: What is promised.
        length: Parameters.
        rounds: Of the run.

    Raises:
        ConfigError: No sum is wide enough.
        PrivacyError: No noise is enough, or none would be left beside the colluders'.
    """
    made, clients = session.aggregation, len(session.clients)
    terms = session.terms = privacy.terms(made, length, clients, rounds)
    if terms is None or terms.protects != "client":
        return
    bound = _room(terms, made, length, clients)
    if bound > LARGEST_BOUND and terms.largest_norm > terms.clipping_norm:
        # A norm that adapts goes as far as sums are wide; they are a little wider than it.
        largest = terms.largest_norm * LARGEST_BOUND / bound * (1 - 2.0**-6)
        terms = session.terms = replace(terms, largest_norm=max(largest, terms.clipping_norm))
        bound = _room(terms, made, length, clients)
    if bound > LARGEST_BOUND:
        raise ConfigError(
            f"updates of norm {terms.largest_norm:g} with their noise make sums of up to "
            f"{bound:.3g}; at most {LARGEST_BOUND} is possible: lower privacy.clipping_norm, raise "
            "privacy.epsilon, or have more clients"
        )
    # The sum of the weights, which is 1, has to fit as well.
    session.aggregation = replace(made, bound=max(1.0, bound))


def _room(terms: Terms, made: Aggregation, length: int, clients: int) -> float:
    """How wide sums have to be for updates of the largest norm."""
    widest = replace(terms, clipping_norm=terms.largest_norm)
    level = level_of(widest, made, length, clients, "")
    return level.room(shifted=made.scheme == "hybrid")


def promise(terms: Terms, made: Aggregation, opened_by: str) -> str:
    """What a run promises its clients, in a sentence.

    Args:
        terms: Of the first round.
        made: How updates are summed.
        opened_by: Who opens the sums.
    """
    if not terms.noise_multiplier and not terms.epsilon:
        return "no privacy is promised: there is a clipping norm and no noise"
    honest = made.min_clients - terms.colluders
    who_adds = {
        "dpsgd": "each client's own noise in training",
        "central": f"noise added by whoever opens the sum: {opened_by}",
        "distributed": f"noise of {honest} honest clients (min_clients {made.min_clients} less "
        f"{terms.colluders} colluders), against an honest-but-curious server",
        "local": "each client's own noise on its update",
    }[terms.mechanism]
    spent = (
        f"at most epsilon {terms.epsilon:g} at delta {terms.delta:g}"
        if terms.epsilon
        else f"without a budget, at delta {terms.delta:g}"
    )
    size = f", noise multiplier {terms.noise_multiplier:.4g}" if terms.protects == "client" else ""
    return f"privacy of every {terms.protects}, {spent}, by {who_adds}{size}"


def rounds_allowed(level: ClientLevel | None, terms: Terms | None) -> int | None:
    """How many rounds a client's budget pays for; None where only the client can tell."""
    if terms is None or level is None or not terms.epsilon:
        return None
    return rounds_within(terms.epsilon, terms.delta, level.charge(), accountant=terms.accountant)


def check_budget(round: int, allowed: int | None, terms: Terms | None) -> None:
    """Refuse to start a round that budgets do not pay for.

    Raises:
        BudgetSpentError: Says for how many rounds they do.
    """
    if terms is not None and allowed is not None and round > allowed:
        raise BudgetSpentError(
            f"epsilon {terms.epsilon:g} at delta {terms.delta:g} pays for {allowed} rounds with "
            f"noise multiplier {terms.noise_multiplier:.4g}; round {round} does not start"
        )
