"""Canaries in what is released: an attacker who sees everything learns no more than was proven.

After Nasr et al. 2021, "Adversary instantiation: lower bounds for differentially private machine
learning". A canary is the worst record that there is: its gradient is longer than the clipping
norm, in a direction of its own. Whether it is in the data is a coin. The attacker knows all the
rest, sees every release, projects it on the canary's direction and says "in" where the likelihood
ratio that the mechanism promises passes one of three limits. What the rates prove about epsilon
must stay below what the accountant proves. Canaries are orthogonal and what they are told apart
from is noise of their own, so that each is an independent trial; 20,000 of them, or 10,000 where
updates are summed.

Right code stays below with a probability of 1 - 10^-6, were the keys not fixed. Noise four times
too small, gradients clipped to four times the norm, batches that take everybody: in 1,000 simulated
audits of each the bound passed what is proven every time, in the mean by five standard deviations
or more, so that the power is above 0.999.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from qfl.clients import private_training
from qfl.conf.schema import ClientConfig
from qfl.data import Examples
from qfl.privacy import Charge, ClientLevel, Stream, epsilon_of, gradient_clipping
from qfl.privacy.auditing import epsilon_from_rates
from qfl.privacy.discrete_gaussian import DiscreteGaussian
from qfl.privacy.dpsgd import DpSgd, NoisyGradients

Floats = NDArray[np.float64]
DELTA, CONFIDENCE = 1e-5, 1 - 1e-6
LIMITS = (0.0, 0.25, 1.25)
"""Of the likelihood ratio's logarithm: near 0 for noise too small, above for too large batches."""

CANARIES, RUNS = 500, 40
SAMPLED = DpSgd(noise_multiplier=2.0, sample_rate=0.25, steps=16)
WHOLE = DpSgd(noise_multiplier=2.0)


def proven(charge: Charge) -> float:
    return epsilon_of([charge], DELTA)


def shown(seen: Floats, inside: NDArray[np.bool_], noise: float, rate: float = 1.0) -> float:
    """Lower bound on epsilon.

    Args:
        seen: What each canary contributed to each release, noise included, (canaries, releases).
        inside: Whether it was in the data.
        noise: Standard deviation that is promised.
        rate: Probability, promised as well, that it took part in a release.
    """
    ratio = np.log1p(rate * np.expm1((seen - 0.5) / noise**2)).sum(axis=1)
    return max(
        epsilon_from_rates(
            int((ratio[inside] > limit).sum()),
            int(inside.sum()),
            int((ratio[~inside] > limit).sum()),
            int((~inside).sum()),
            DELTA,
            1 - (1 - CONFIDENCE) / len(LIMITS),
        )
        for limit in LIMITS
    )


class TwoLayers(nn.Module):
    """Layers of which a record's gradient fills both alike: each clipping leaves it its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(CANARIES, 1, bias=False)
        self.right = nn.Linear(CANARIES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        both: Tensor = self.left(x) + self.right(x)
        return both


def training_shows(privacy: DpSgd, monkeypatch: pytest.MonkeyPatch) -> float:
    """Train as clients do, on canaries alone, and look at every noisy gradient."""
    released: list[Floats] = []

    class Watched(NoisyGradients):
        def __call__(self, x: Tensor, y: Tensor) -> Floats:
            norm = self.clipping_norm
            released.append(super().__call__(x, y) / norm)
            return released[-1] * norm

    monkeypatch.setattr(private_training, "NoisyGradients", Watched)
    stream, coins = Stream(bytes(32)), []
    for _ in range(RUNS):
        inside = stream.words(CANARIES) % 2 == 1
        x = np.eye(CANARIES, dtype=np.float32)
        x[~inside] = np.nan  # counts as a record and changes nothing: the number tells nothing
        private_training.train_privately(
            TwoLayers(),
            Examples(x, np.full(CANARIES, -1e4, np.float32)),
            ClientConfig(optimizer="sgd", lr=1e-3),
            privacy,
            "regression",
            stream=stream,
        )
        coins.append(inside)
    parts = np.array(released).reshape(RUNS, privacy.steps, 2, CANARIES)
    projected = parts.sum(axis=2) / np.sqrt(2) * privacy.sample_rate * CANARIES
    seen = projected.transpose(0, 2, 1).reshape(-1, privacy.steps)
    return shown(seen, np.concatenate(coins), privacy.noise_multiplier, privacy.sample_rate)


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "adaptive"])
@pytest.mark.parametrize("gradients", ["fused", "opacus"])
def test_gradients_show_no_more_than_is_proven(
    clipping: str, gradients: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy = replace(SAMPLED, clipping=clipping, gradients=gradients)
    # The attack works: what it shows is not nothing.
    assert 0.25 < training_shows(privacy, monkeypatch) < proven(privacy.charge())


def test_a_step_on_all_records_shows_no_more_than_is_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 0.25 < training_shows(WHOLE, monkeypatch) < proven(WHOLE.charge())


def quieten(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = DiscreteGaussian.draw
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda *arguments: draw(*arguments) // 4)


def clip_to_more(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = gradient_clipping._scale
    monkeypatch.setattr(gradient_clipping, "_scale", lambda squares, norm: scale(squares, 4 * norm))


def take_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(records: int, rate: float, steps: int, stream: Stream) -> Iterator[Floats]:
        return iter([np.arange(records)] * steps)

    monkeypatch.setattr(private_training, "poisson_batches", batches)


@pytest.mark.parametrize(
    ("break_it", "privacy"),
    [
        (quieten, SAMPLED),
        (quieten, WHOLE),
        (quieten, replace(SAMPLED, gradients="opacus")),
        (clip_to_more, SAMPLED),
        (clip_to_more, WHOLE),
        (take_everybody, SAMPLED),
    ],
)
def test_what_is_wrong_with_training_shows(
    break_it: Callable[[pytest.MonkeyPatch], None], privacy: DpSgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert training_shows(privacy, monkeypatch) > proven(privacy.charge())


LENGTH, HONEST, ROUNDS = 128, 4, 80
CENTRAL = ClientLevel(
    "central", "discrete_gaussian", 2.0, 1.0, LENGTH, LENGTH + HONEST, 20, seed=b"canaries"
)
DISTRIBUTED = replace(CENTRAL, mechanism="distributed", shares=HONEST)
SKELLAM = replace(DISTRIBUTED, noise="skellam", fraction_bits=14)
LOCAL = replace(CENTRAL, mechanism="local", length=1, clients=1)


def sums_show(level: ClientLevel) -> float:
    """Updates in orthogonal directions, each in by a coin, and the sum of each round."""
    stream, coins, seen = Stream(bytes(32)), [], []
    for _ in range(ROUNDS):
        inside = stream.words(LENGTH) % 2 == 1
        # Canaries keep their noise back, as colluders may: it does not count.
        silent = replace(level, noise_multiplier=0.0)
        total = sum(silent.encode(update, stream) for update in np.eye(LENGTH)[inside])
        if level.mechanism == "distributed":
            total += sum(level.encode(np.zeros(LENGTH), stream) for _ in range(HONEST))
        decoded, _ = level.decode(level.noised(total, stream), int(inside.sum()))
        seen.append(decoded * level.clients)
        coins.append(inside)
    return shown(np.concatenate(seen)[:, None], np.concatenate(coins), level.noise_multiplier)


def messages_show(level: ClientLevel) -> float:
    """What one client sends alone: its update, or the opposite one."""
    stream = Stream(bytes(32))
    inside = stream.words(LENGTH * ROUNDS) % 2 == 1
    sent = [level.encode(np.array([1.0 if coin else -1.0]), stream) for coin in inside]
    decoded = np.array([level.decode(one, 1)[0] for one in sent])
    return shown((decoded + 1) / 2, inside, level.noise_multiplier)


@pytest.mark.parametrize("level", [CENTRAL, DISTRIBUTED, SKELLAM, LOCAL])
def test_updates_show_no_more_than_is_proven_but_with_a_quarter_of_the_noise(
    level: ClientLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = messages_show if level.mechanism == "local" else sums_show
    assert 0.2 < show(level) < proven(level.charge())
    whole = ClientLevel.share_sigma.fget
    assert whole is not None
    monkeypatch.setattr(ClientLevel, "share_sigma", property(lambda self: whole(self) / 4))
    # Made anew, because a sampler that was drawn from is kept.
    assert show(replace(level)) > proven(level.charge())
