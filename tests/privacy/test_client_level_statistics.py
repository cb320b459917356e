"""How much noise there really is: variances by chi-square, tails, the quantile that is found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from qfl.privacy.client_level import ClientLevel, next_clipping_norm
from qfl.privacy.discrete_gaussian import DiscreteGaussian
from qfl.privacy.randomness import Stream
from qfl.privacy.rotation import unrotate

LENGTH, CLIENTS, SHARES = 2**12, 6, 4
CENTRAL = ClientLevel(
    "central", "discrete_gaussian", 1.3, 1.0, LENGTH, CLIENTS, 20, count_noise=4.0, seed=b"r"
)
DISTRIBUTED = replace(CENTRAL, mechanism="distributed", shares=SHARES)
LOCAL = replace(CENTRAL, mechanism="local")
SKELLAM = replace(DISTRIBUTED, noise="skellam", fraction_bits=12)
REPEATS = 20


def noise_of(level: ClientLevel, contributors: int, key: int) -> tuple[np.ndarray, list[float]]:
    """Noise on decoded sums of zeros, in real units, and on counts, of a few rounds."""
    stream, update = Stream(key.to_bytes(32, "big")), np.zeros(LENGTH)
    noises, counts = [], []
    for _ in range(REPEATS):
        opened = sum(level.encode(update, stream) for _ in range(contributors))
        decoded, count = level.decode(level.noised(opened, stream), contributors)
        assert count is not None
        noises.append(decoded)
        counts.append(count - contributors)
    return np.concatenate(noises), counts


def has_variance(noise: np.ndarray, variance: float) -> bool:
    """Whether a chi-square test at 1 in 10^5 believes it."""
    low, high = stats.chi2.interval(1 - 1e-5, noise.size)
    return bool(low < float(noise @ noise) / variance < high)


@pytest.mark.parametrize(
    ("level", "contributors", "wholes"),
    [
        (CENTRAL, CLIENTS, 1),
        (DISTRIBUTED, SHARES, 1),
        (DISTRIBUTED, CLIENTS, CLIENTS / SHARES),
        (SKELLAM, SHARES, 1),
        (LOCAL, 1, 1),
        (LOCAL, CLIENTS, CLIENTS),
    ],
)
def test_the_decoded_sum_has_the_noise_that_is_charged(
    level: ClientLevel, contributors: int, wholes: float
) -> None:
    noise, _ = noise_of(level, contributors, key=1)
    sigma = level.charge().noise_multiplier * level.charge().sensitivity * 2.0**-level.fraction_bits
    assert has_variance(noise, wholes * sigma**2)
    assert stats.kstest(noise / (sigma * math.sqrt(wholes)), "norm").pvalue > 1e-5


def test_a_tenth_less_noise_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = DISTRIBUTED.sigma * 2.0**-20
    whole = DISTRIBUTED.share_sigma
    monkeypatch.setattr(ClientLevel, "share_sigma", property(lambda self: 0.9 * whole))
    noise, _ = noise_of(replace(DISTRIBUTED), SHARES, key=1)
    assert not has_variance(noise, sigma**2)
    assert has_variance(noise, 0.81 * sigma**2)


@pytest.mark.parametrize(("level", "contributors"), [(CENTRAL, 6), (DISTRIBUTED, 4), (LOCAL, 6)])
def test_the_count_has_the_noise_that_was_asked_for(level: ClientLevel, contributors: int) -> None:
    level = replace(level, length=1, count_noise=9.0)
    stream, update = Stream(bytes(32)), np.zeros(1)
    found = []
    for _ in range(1500):
        opened = sum(level.encode(update, stream) for _ in range(contributors))
        found.append(level.decode(level.noised(opened, stream), contributors)[1])
    assert has_variance(np.array(found) - contributors, 81.0)


def test_each_clients_noise_is_its_own() -> None:
    one, other = (DISTRIBUTED.encode(np.zeros(LENGTH), Stream()) for _ in range(2))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(LENGTH)


@pytest.mark.parametrize("level", [DISTRIBUTED, LOCAL])
def test_nothing_is_cut_off_from_the_noise(level: ClientLevel) -> None:
    # What a client sends is what it rounded, the count, and what the sampler draws next.
    stream, again = Stream(bytes(32)), Stream(bytes(32))
    update = np.random.default_rng(0).normal(size=LENGTH)
    rounded = replace(level, noise_multiplier=0.0, count_noise=None).encode(update, again)
    drawn = DiscreteGaussian(level.share_sigma).draw(LENGTH + 1, again)
    silent = level.encode(update, stream) - drawn
    np.testing.assert_array_equal(silent, np.append(rounded, -level.count_scale // 2))
    distance = 2 if level.mechanism == "local" else 1
    assert distance * np.linalg.norm(silent) <= level.sensitivity


@pytest.mark.parametrize("level", [DISTRIBUTED, LOCAL, SKELLAM])
def test_noise_keeps_to_the_headroom(level: ClientLevel) -> None:
    stream = Stream(bytes(32))
    noise = sum(level.encode(np.zeros(LENGTH), stream) for _ in range(CLIENTS))
    largest = int(np.abs(noise[:-1]).max())
    assert largest <= level.headroom
    # Of 4097 normal values none is beyond 8.5 standard deviations but once in 2^40 rounds.
    sigma = level.share_sigma * math.sqrt(CLIENTS)
    assert 8.4 * sigma < level.headroom < 9 * sigma


@pytest.mark.parametrize("level", [CENTRAL, DISTRIBUTED, LOCAL, SKELLAM])
def test_the_bound_holds_the_worst_that_clients_can_do(level: ClientLevel) -> None:
    # All of the norm in one coordinate after rotation, by all of them.
    first = np.zeros(LENGTH)
    first[0] = 1e6
    worst = unrotate(first, level.seed, LENGTH)
    silent = replace(level, noise_multiplier=0.0)
    for one in (silent, level):
        sent = sum(one.encode(worst, Stream(bytes([key] * 32))) for key in range(CLIENTS))
        largest = float(np.abs(sent).max()) * 2.0**-one.fraction_bits
        assert largest <= one.bound
        assert one is level or largest > 0.999 > 0.99 * one.bound


@pytest.mark.parametrize("scale", [1e-3, 0.03, 1.0, 30.0])
def test_the_skellam_tail_holds_against_the_distribution_itself(scale: float) -> None:
    level = replace(
        SKELLAM, length=1, count_noise=None, fraction_bits=0, clipping_norm=scale, rounds=1
    )
    variance = CLIENTS * level.share_sigma**2
    beyond = stats.skellam.sf(math.floor(level.headroom), variance / 2, variance / 2)
    assert 2 * beyond <= 2.0**-40
    # Nor is it much farther than it need be.
    nearer = stats.skellam.sf(math.floor(0.8 * level.headroom) - 1, variance / 2, variance / 2)
    assert 2 * nearer > 2.0**-40


def test_the_gaussian_tail_holds_against_the_normal_distribution() -> None:
    level = replace(DISTRIBUTED, rounds=100)
    sigma = level.share_sigma * math.sqrt(CLIENTS)
    beyond = 2 * stats.norm.sf(level.headroom / sigma) * level.width * 100
    assert 2.0**-46 < beyond <= 2.0**-40


def test_the_headroom_grows_with_what_it_has_to_hold() -> None:
    for level in (DISTRIBUTED, LOCAL, SKELLAM):
        assert replace(level, rounds=1000).headroom > level.headroom
        assert replace(level, noise_multiplier=1.4).headroom > level.headroom
        assert replace(level, noise_multiplier=1.4).bound > level.bound
    assert CENTRAL.headroom == 0


def test_adaptive_clipping_finds_the_quantile() -> None:
    # Quantiles of a log-normal distribution: the median is 1, the upper quintile 2.32.
    norms = np.exp(stats.norm.ppf((np.arange(80) + 0.5) / 80))
    draws = np.random.default_rng(5)
    directions = draws.normal(size=(80, 4))
    updates = directions / np.linalg.norm(directions, axis=1, keepdims=True) * norms[:, None]
    for target, quantile in ((0.5, 1.0), (0.8, 2.32)):
        stream, norm, late = Stream(bytes(32)), 0.3, []
        for step in range(24):
            level = ClientLevel(
                "central", "discrete_gaussian", 1.0, norm, 4, 80, 30, count_noise=4.0
            )
            opened = sum(level.encode(update, stream) for update in updates)
            _, count = level.decode(level.noised(opened, stream), 80)
            assert count is not None
            norm = next_clipping_norm(norm, count / 80, target, lr=1.0)
            if step >= 10:
                late.append(norm)
        assert np.mean(late) == pytest.approx(quantile, rel=0.15)
