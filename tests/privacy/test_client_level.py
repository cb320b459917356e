"""Client-level privacy of sums: sizes, sensitivity, decoding, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from qfl.errors import PrivacyError
from qfl.privacy.client_level import ClientLevel, next_clipping_norm
from qfl.privacy.randomness import Stream
from qfl.privacy.rounding import rounded_norm

CENTRAL = ClientLevel(
    mechanism="central",
    noise="discrete_gaussian",
    noise_multiplier=1.0,
    clipping_norm=1.0,
    length=10,
    clients=4,
    fraction_bits=20,
    seed=b"round 1",
)
DISTRIBUTED = replace(CENTRAL, mechanism="distributed", shares=3)
LOCAL = replace(CENTRAL, mechanism="local")
MECHANISMS = (CENTRAL, DISTRIBUTED, LOCAL)
UNITS = 2.0**20 / 4  # of one client's weighted update of norm 1


def test_sizes() -> None:
    assert (CENTRAL.padded, CENTRAL.width) == (16, 16)
    assert replace(CENTRAL, count_noise=5.0).width == 17


def test_sensitivity_is_the_rounded_norm_and_locally_twice_that() -> None:
    assert CENTRAL.sensitivity == rounded_norm(UNITS, 16)
    assert DISTRIBUTED.sensitivity == CENTRAL.sensitivity
    assert LOCAL.sensitivity == 2 * CENTRAL.sensitivity


def test_noise_is_a_multiple_of_the_sensitivity_and_shared_by_variance() -> None:
    for level in MECHANISMS:
        level = replace(level, noise_multiplier=2.5)
        assert level.sigma == 2.5 * level.sensitivity
        assert level.share_sigma**2 * level.shares == pytest.approx(level.sigma**2)
    assert DISTRIBUTED.share_sigma == pytest.approx(DISTRIBUTED.sigma / math.sqrt(3))


@settings(max_examples=200)
@given(data=st.data(), length=st.integers(1, 40))
def test_no_contribution_is_longer_than_the_sensitivity(data: st.DataObject, length: int) -> None:
    update = data.draw(arrays(np.float64, length, elements=st.floats(-1e300, 1e300)))
    mechanism = data.draw(st.sampled_from(["central", "distributed", "local"]))
    # Clients add no noise under central; there, the count's scale goes with the noise.
    noisy = mechanism == "central" and data.draw(st.booleans())
    level = ClientLevel(
        mechanism=mechanism,
        noise="discrete_gaussian",
        noise_multiplier=0.7 * noisy,
        clipping_norm=data.draw(st.floats(1e-6, 1e6)),
        length=length,
        clients=data.draw(st.integers(1, 50)),
        fraction_bits=data.draw(st.integers(0, 30)),
        count_noise=data.draw(st.sampled_from([None, 0.4, 5.0, 20.0])),
        seed=data.draw(st.binary(max_size=4)),
    )
    sent = level.encode(update, Stream(bytes(32)))
    assert sent.shape == (level.width,)
    norm = math.sqrt(sum(int(value) ** 2 for value in sent))
    distance = 2 if mechanism == "local" else 1
    assert distance * norm <= level.sensitivity * (1 + 1e-15)


@given(update=arrays(np.float64, 13, elements=st.floats(-1, 1)), clients=st.integers(1, 9))
def test_without_noise_a_round_trip_is_off_by_roundings_only(
    update: np.ndarray, clients: int
) -> None:
    level = ClientLevel("distributed", "discrete_gaussian", 0.0, 1.0, 13, clients, 20, seed=b"s")
    found, count = level.decode(level.encode(update, Stream(bytes(32))), contributions=1)
    clipped = update / max(1.0, float(np.linalg.norm(update)))
    # Sixteen roundings of less than a unit each, turned back.
    assert np.linalg.norm(found - clipped / clients) < math.sqrt(16) * 2.0**-20
    assert count is None


def test_without_noise_decoding_is_unbiased() -> None:
    level = ClientLevel("central", "discrete_gaussian", 0.0, 1.0, 6, 1, 4, seed=b"s")
    update, stream, repeats = np.array([0.1, -0.2, 0.05, 0.3, 0.0, -0.15]), Stream(bytes(32)), 4000
    found = [level.decode(level.encode(update, stream), 1)[0] for _ in range(repeats)]
    # Each coordinate has a variance of a quarter of a unit squared at most, and less than one unit
    # in L2 is what the condition on the norm may cost; here the bound is far enough away.
    error = 0.5 * 2.0**-4 / math.sqrt(repeats)
    assert (np.abs(np.mean(found, axis=0) - update) < 4.5 * error).all()


def test_sums_decode_to_the_sum_of_clipped_updates() -> None:
    level = ClientLevel(
        "distributed", "discrete_gaussian", 0.0, 1.0, 100, 5, 24, shares=4, count_noise=2.0
    )
    updates = np.random.default_rng(0).normal(size=(5, 100)) * np.array(
        [[0.01], [1], [0.02], [3], [0]]
    )
    opened = sum(level.encode(update, Stream()) for update in updates)
    found, count = level.decode(opened, contributions=5)
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    expected = (updates / np.maximum(norms, 1.0)).sum(axis=0) / 5
    np.testing.assert_allclose(found, expected, rtol=0, atol=5 * math.sqrt(128) * 2.0**-24)
    assert count == 3


@pytest.mark.parametrize("level", [*MECHANISMS, replace(DISTRIBUTED, noise="skellam")])
def test_a_noise_multiplier_of_zero_adds_nothing(level: ClientLevel) -> None:
    level = replace(level, noise_multiplier=0.0)
    sent = level.encode(np.zeros(10), Stream())
    assert not sent.any()
    assert not level.noised(sent, Stream()).any()
    assert (level.sigma, level.headroom) == (0, 0)
    charge = level.charge()
    assert (charge.noise_multiplier, charge.delta) == (0, 0)


def test_who_adds_noise() -> None:
    nothing = np.zeros(10)
    assert not CENTRAL.encode(nothing, Stream()).any()
    assert CENTRAL.noised(np.zeros(16, np.int64), Stream()).any()
    for level in (DISTRIBUTED, LOCAL):
        sent = level.encode(nothing, Stream())
        assert sent.any()
        np.testing.assert_array_equal(level.noised(sent, Stream()), sent)


@given(z=st.floats(0.05, 10), count_noise=st.floats(5.5, 100))
def test_counting_costs_what_andrew_et_al_say(z: float, count_noise: float) -> None:
    # z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2), on a grid so fine that rounding is nothing.
    level = replace(CENTRAL, noise_multiplier=z, count_noise=count_noise, fraction_bits=44)
    update_noise = level.sigma / rounded_norm(2.0**44 / 4, 16)
    assert update_noise == pytest.approx((z**-2 - (2 * count_noise) ** -2) ** -0.5, rel=1e-6)
    assert level.sigma / level.count_scale == pytest.approx(count_noise, rel=1e-6)
    assert level.count_scale % 2 == 0


def test_on_a_coarse_grid_the_count_that_is_sent_is_what_is_accounted_for() -> None:
    level = replace(CENTRAL, noise_multiplier=0.5, count_noise=50.0, fraction_bits=2)
    assert level.count_scale == 2
    assert level.sensitivity == pytest.approx(math.sqrt(rounded_norm(1.0, 16) ** 2 + 1))
    assert level.sigma == 0.5 * level.sensitivity


def test_locally_the_noise_on_the_count_is_that_of_all_clients() -> None:
    level = replace(LOCAL, noise_multiplier=0.5, count_noise=7.0, clients=9, fraction_bits=40)
    assert level.sigma * math.sqrt(9) / level.count_scale == pytest.approx(7.0, rel=1e-6)


@pytest.mark.parametrize(
    ("level", "least"), [(CENTRAL, 1.5), (DISTRIBUTED, 1.5), (replace(LOCAL, clients=9), 9)]
)
def test_counting_with_too_little_noise_is_refused(level: ClientLevel, least: float) -> None:
    with pytest.raises(PrivacyError, match=f"raise count_noise above {least:g}"):
        replace(level, noise_multiplier=3.0, count_noise=least)
    assert replace(level, noise_multiplier=3.0, count_noise=1.01 * least).sigma > 0


def test_what_is_charged() -> None:
    for level in MECHANISMS:
        level = replace(level, noise_multiplier=1.5, rounds=8, count_noise=5.0)
        charge = level.charge()
        assert charge.mechanism == "discrete_gaussian"
        assert charge.noise_multiplier == 1.5
        assert charge.sensitivity == level.sensitivity
        assert charge.dimension == 17
        assert charge.shares == (3 if level.mechanism == "distributed" else 1)
        wraps = 0.0 if level.mechanism == "central" else 2.0**-43
        assert charge.delta == pytest.approx(wraps, rel=1e-9, abs=1e-30)
        assert charge.delta > wraps * (1 - 1e-12)


def test_a_sum_of_skellams_is_one_skellam() -> None:
    level = replace(DISTRIBUTED, noise="skellam", fraction_bits=10)
    assert level.charge().shares == 1
    assert level.charge().mechanism == "skellam"


def test_a_grid_too_fine_for_skellam_says_what_to_do() -> None:
    level = replace(DISTRIBUTED, noise="skellam", fraction_bits=30)
    for use in (level.charge, lambda: level.encode(np.zeros(10), Stream())):
        with pytest.raises(PrivacyError, match=r"strategy\.grid_bits"):
            use()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mechanism": "centrl"}, "did you mean 'central'"),
        ({"noise": "laplace"}, "Known: discrete_gaussian, skellam"),
        ({"clipping_norm": 0.0}, "clipping_norm=0.0 is not allowed"),
        ({"clipping_norm": math.inf}, "clipping_norm=inf is not allowed"),
        ({"clipping_norm": math.nan}, "clipping_norm=nan is not allowed"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0 is not allowed"),
        ({"noise_multiplier": math.nan}, "noise_multiplier=nan is not allowed"),
        ({"length": 0}, "length=0 is not allowed"),
        ({"clients": 0}, "clients=0 is not allowed"),
        ({"fraction_bits": 53}, "fraction_bits=53 is not allowed"),
        ({"shares": 2}, "shares=2 is not allowed: must be 1 to 1 under central"),
        ({"mechanism": "distributed", "shares": 5}, "must be 1 to 4 under distributed"),
        ({"mechanism": "distributed", "shares": 0}, "must be 1 to 4 under distributed"),
        ({"count_noise": 0.0}, "count_noise=0.0 is not allowed"),
        ({"rounds": 0}, "rounds=0 is not allowed"),
        ({"clipping_norm": 1e12, "fraction_bits": 52}, r"lower strategy\.grid_bits"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(PrivacyError, match=said):
        replace(CENTRAL, **change)


def test_vectors_of_other_sizes_are_refused() -> None:
    with pytest.raises(PrivacyError, match="10 parameters"):
        CENTRAL.encode(np.zeros(9), Stream())
    with pytest.raises(PrivacyError, match="16 integers"):
        CENTRAL.decode(np.zeros(10, np.int64), contributions=1)


def test_an_update_that_diverged_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"lower client\.lr"):
        CENTRAL.encode(np.full(10, np.nan), Stream())


def test_the_norm_moves_by_the_papers_formula() -> None:
    # C exp(-lr (b - gamma)), Andrew et al. 2021.
    assert next_clipping_norm(2.0, 0.9, 0.5, 0.2) == pytest.approx(2 * math.exp(-0.08))
    assert next_clipping_norm(2.0, 0.1, 0.5, 0.2) == pytest.approx(2 * math.exp(0.08))


@given(
    norm=st.floats(1e-6, 1e6),
    fraction=st.floats(-1e6, 1e6),
    target=st.floats(0, 1),
    lr=st.floats(0, 10),
)
def test_noise_on_the_count_moves_the_norm_by_one_full_step_at_most(
    norm: float, fraction: float, target: float, lr: float
) -> None:
    moved = next_clipping_norm(norm, fraction, target, lr)
    assert 1e-6 <= moved <= 1e6
    assert abs(math.log(moved / norm)) <= lr + 1e-9


def test_the_limits_hold() -> None:
    assert next_clipping_norm(1e-6, 1.0, 0.0, 1.0) == 1e-6
    assert next_clipping_norm(1e6, 0.0, 1.0, 1.0) == 1e6
