"""What a client insists on and keeps account of, before its data are touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message

from qfl.clients.noising import level_of
from qfl.clients.private_answer import keeping_quiet, note_paid
from qfl.crypto import Step
from qfl.errors import BudgetSpentError, PayloadError, PrivacyError
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


@dataclass(frozen=True)
class Accounts:
    """A client's own side of differential privacy.

    Attributes:
        ledger: File in which what was spent is kept; a private update needs one. Unset, it is the
            node's ``privacy-ledger`` in its node configuration.
        floor: Weakest terms on which it takes part; unset, it takes any, none included.
        dataset: Names the data that a message is about, by digest; unset, all that the ledger's
            node has counts as one data set, so that changed data get no new budget.

    Example:
        >>> from qfl.clients import Accounts, ProtectMod
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
        note_paid(context)


def fitting_level(terms: Terms, step: Step, length: int) -> ClientLevel:
    """What the terms of a step mean for an update of ``length`` parameters, if its sums hold it.

    Raises:
        PayloadError: Sums are too narrow for such updates and their noise. Which of them fit would
            tell of the data, and without noise under ``central``.
    """
    level = level_of(terms, step, length, step.place)
    if (needed := level.room(shifted=step.scheme == "hybrid")) > step.bound:
        raise PayloadError(
            f"the server's step has bound={step.bound:g}, and updates of norm "
            f"{terms.clipping_norm:g} with their noise need {needed:.4g}"
        )
    return level


@lru_cache(maxsize=8)
def _ledger(path: str) -> Ledger:
    return Ledger(Path(path))
