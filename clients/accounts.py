"""What a client insists on and keeps account of, before its data are touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message

from qfl.crypto import Step
from qfl.errors import (
    BudgetSpentError,
    ConfigError,
    MissingDependencyError,
    PayloadError,
    PrivacyError,
)
from qfl.privacy import (
    BUDGET_SPENT,
    Budget,
    Charge,
    ClientLevel,
    Entry,
    Ledger,
    PrivacyFloor,
    Terms,
)

WHOLE = hashlib.sha256(b"all data of this node").hexdigest()
_AGREED, _PAID = "qfl-agreed", "qfl-paid"

App = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class Accounts:
    """A client's own side of differential privacy.

    Attributes:
        ledger: File in which what was spent is kept; a private update needs one. Unset, it is the
            node's ``privacy-ledger`` in its node configuration.
        floor: Weakest terms on which it takes part; unset, it takes any, none included.
        dataset: Names the data that a message is about, by digest; unset, all that the node has
            counts as one data set.

    Example:
        >>> from qfl.clients import ProtectMod
        >>> from qfl.privacy import PrivacyFloor
        >>> floor = PrivacyFloor(("distributed",), noise_multiplier=1.0)
        >>> mod = ProtectMod(accounts=Accounts("ledger.sqlite", floor))
    """

    ledger: str | None = None
    floor: PrivacyFloor | None = None
    dataset: Callable[[Message, Context], str] | None = None

    def agree(self, step: Step) -> Terms | None:
        """The terms of a step that asks for something about this client's data.

        Raises:
            PayloadError: The step would have something leave without noise.
            PrivacyError: The terms are malformed, or weaker than the floor.
        """
        terms = self.insist(step)
        if terms is None:
            return None
        if step.step != "train" or step.metrics:
            asked = f"metrics {', '.join(step.metrics)}" if step.metrics else f"'{step.label}'"
            raise PayloadError(
                f"the server asks for {asked} under privacy={terms.mechanism}: nothing but a "
                "private update leaves this client"
            )
        if step.examples:
            raise PayloadError(
                f"the server asks for weights by examples under privacy={terms.mechanism}: they "
                "tell how many examples a client holds; only uniform weights are private"
            )
        if terms.mechanism == "distributed" and step.scheme == "plain":
            raise PayloadError(
                "the server asks for privacy=distributed with scheme plain: it would read every "
                "update with a share of the noise; another scheme or privacy=local is needed"
            )
        return terms

    def insist(self, step: Step) -> Terms | None:
        """The terms of a step, refused where they are weaker than the floor.

        Raises:
            PrivacyError: They are, or they are malformed.
        """
        terms = Terms.from_json(step.privacy) if step.privacy else None
        if self.floor is not None:
            self.floor.check(terms, step.min_clients)
        return terms

    def spend(
        self,
        charge: Charge,
        budget: Budget,
        message: Message,
        context: Context,
        *,
        run: str,
        round: int,
        attempt: int = 0,
    ) -> None:
        """Enter what a round will cost; done before the data are touched.

        Raises:
            BudgetSpentError: The budget does not allow it; nothing is entered.
            PrivacyError: There is no ledger, or it cannot be trusted.
        """
        path = self.ledger or context.node_config.get("privacy-ledger")
        if not path:
            raise PrivacyError(
                "this client keeps no ledger, and gives no private update without: pass "
                "ProtectMod(accounts=Accounts(ledger=FILE)), or set privacy-ledger in the node "
                "configuration"
            )
        with keeping_quiet():
            dataset = WHOLE if self.dataset is None else self.dataset(message, context)
        client = str(context.node_config.get("partition-id", context.node_id))
        try:
            _ledger(str(path)).spend(Entry(dataset, client, run, round, attempt, charge), budget)
        except BudgetSpentError:
            # What was spent follows from how much data there is, which is not the server's to know.
            raise BudgetSpentError(
                f"this client's {BUDGET_SPENT}: its budget of epsilon {budget.epsilon:g} at delta "
                f"{budget.delta:g} does not pay for round {round}; its ledger shows what was spent"
            ) from None
        context.state[_PAID] = ConfigRecord({"mechanism": charge.mechanism})


@contextmanager
def keeping_quiet() -> Iterator[None]:
    """What goes wrong with a client's data is not the server's to know; its own log says it.

    Raises:
        PrivacyError: Something did, which is not about what the server asked for.
    """
    try:
        yield
    except (ConfigError, MissingDependencyError, PayloadError, PrivacyError):
        raise
    except Exception as error:
        raise PrivacyError(FAILED) from error


FAILED = (
    "something went wrong at this client, under differential privacy; what it was stays in its "
    "own log, because it may tell of its data"
)


def answer_of(app: App, terms: Terms | None, message: Message, context: Context) -> Message:
    """What the app answers, which is told of the terms that were agreed on.

    Raises:
        PrivacyError: It failed, or the terms leave the noise to the app and it spent nothing.
    """
    context.state.pop(_PAID, None)
    context.state[_AGREED] = ConfigRecord({"mechanism": terms.mechanism if terms else "none"})
    try:
        if terms is None:
            return app(message, context)
        with keeping_quiet():
            reply = app(message, context)
    finally:
        del context.state[_AGREED]
    if reply.has_error():
        raise PrivacyError(FAILED)
    if context.state.pop(_PAID, None) is None and terms.protects == "record":
        raise PrivacyError(
            f"the terms are privacy={terms.mechanism}, and this client's app spent nothing: it "
            "does not train with DP-SGD, or keeps no account of it (Accounts.spend); its update "
            "stays here"
        )
    return reply


def agreed_on(context: Context) -> str:
    """The mechanism on whose terms the message at hand is answered; ``none`` where there are none.

    For apps: what protects each client is not theirs to do, but theirs to rely on.
    """
    held = context.state.config_records.get(_AGREED)
    return "none" if held is None else str(held["mechanism"])


def level_of(terms: Terms, step: Step, length: int) -> ClientLevel:
    """What the terms of a step mean for an update of ``length`` parameters.

    Raises:
        PayloadError: Sums are too narrow for such updates and their noise. Which of them fit would
            tell of the data, and without noise under ``central``.
    """
    level = terms.level(
        length=length,
        clients=step.clients,
        min_clients=step.min_clients,
        fraction_bits=step.fraction_bits,
        place=step.place,
    )
    if level.bound > step.bound:
        raise PayloadError(
            f"the server's step has bound={step.bound:g}, and updates of norm "
            f"{terms.clipping_norm:g} with their noise need {level.bound:.4g}"
        )
    return level


@lru_cache(maxsize=8)
def _ledger(path: str) -> Ledger:
    return Ledger(Path(path))
