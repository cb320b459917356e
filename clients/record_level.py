"""A client's own DP-SGD: how often it samples, how much noise that takes, what it spends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from flwr.app import ConfigRecord, Context, Message
from torch import nn

from qfl.clients.accounts import Accounts
from qfl.clients.private_training import train_privately
from qfl.conf.schema import ExperimentConfig
from qfl.data import Examples
from qfl.errors import DataError, PrivacyError
from qfl.privacy import Budget, Charge, noise_multiplier_for
from qfl.privacy.dpsgd import DpSgd
from qfl.privacy.poisson import steps_of

_CLIPPING = "qfl-clipping-norm"


@dataclass(frozen=True)
class Spending:
    """Who pays for a round.

    Attributes:
        accounts: Floor and ledger.
        message: That asked for the round.
        context: The client's.
        round: Its number.
    """

    accounts: Accounts
    message: Message
    context: Context
    round: int


def train_and_account(
    model: nn.Module, examples: Examples, config: ExperimentConfig, spending: Spending
) -> None:
    """Train in place, after the ledger has been charged.

    Raises:
        BudgetSpentError: The budget of these examples does not pay for the round.
        PrivacyError: The model cannot be trained privately, there is no ledger, or what was asked
            for is weaker than this client's floor.
    """
    asked, accounts, context = config.privacy, spending.accounts, spending.context
    held = context.state.config_records.get(_CLIPPING)
    norm = asked.clipping_norm
    if held is not None and asked.clipping == "adaptive":
        norm = float(str(held["norm"]))
    plan = plan_of(config, len(examples), norm)
    if accounts.floor is not None:
        # The terms of the message are checked by the mod; these are another part of it.
        accounts.floor.check_budget(asked.epsilon, asked.delta)
        accounts.floor.check_training(plan.noise_multiplier, norm, plan.sample_rate)
    accounts.spend(
        plan.charge(),
        Budget(asked.epsilon, asked.delta, asked.accountant),
        spending.message,
        context,
        run=str(spending.message.metadata.run_id),
        round=spending.round,
    )
    try:
        trained = train_privately(model, examples, config.client, plan, config.dataset.task)
    except DataError as error:
        # That it diverged follows from noisy gradients alone, so it need not stay here.
        raise PrivacyError(str(error)) from None
    if asked.clipping == "adaptive":
        context.state[_CLIPPING] = ConfigRecord({"norm": trained.clipping_norm})


def plan_of(config: ExperimentConfig, records: int, clipping_norm: float) -> DpSgd:
    """How a client with so many records trains in each round.

    Where ``privacy.noise_multiplier`` is unset it is the smallest with which all rounds of this
    client, sampled at its own rate, stay within the budget.

    Raises:
        PrivacyError: No noise is enough.
    """
    asked, client = config.privacy, config.client
    rate = asked.sample_rate or min(1.0, client.batch_size / max(records, 1))
    plan = DpSgd(
        noise_multiplier=asked.noise_multiplier or 0.0,
        clipping_norm=clipping_norm,
        clipping=asked.clipping,
        sample_rate=rate,
        steps=steps_of(client.local_epochs, rate),
        target_quantile=asked.target_quantile,
        clipping_lr=asked.clipping_lr,
        count_noise=asked.count_noise,
        gradients=asked.gradients,
    )
    if asked.noise_multiplier is None and asked.epsilon is not None:
        noise = _enough_noise(
            asked.epsilon, asked.delta, asked.accountant, config.rounds, rate, plan.steps
        )
        plan = replace(plan, noise_multiplier=noise)
    return plan


@lru_cache(maxsize=1024)
def _enough_noise(
    epsilon: float, delta: float, accountant: str, rounds: int, rate: float, steps: int
) -> float:
    def charges_of(noise_multiplier: float) -> list[Charge]:
        plan = DpSgd(noise_multiplier=noise_multiplier, sample_rate=rate, steps=steps)
        return [plan.charge()] * rounds

    return noise_multiplier_for(epsilon, delta, charges_of, accountant)
