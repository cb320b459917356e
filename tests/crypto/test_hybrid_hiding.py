"""What the released sum of keys tells of one key: much if keys were ternary, little as they are."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from qfl.crypto.discrete_gaussian import draw_gaussian, tables_of
from qfl.crypto.hardness import primal_attack, width_given_sum
from qfl.crypto.hybrid_parameters import SIGMA
from qfl.crypto.keystream import keystream

# log2 of the modulus, at which the standard of 2018 gives a level to each degree (ternary keys,
# error 8 / sqrt(2 pi)): Table 1 of homomorphicencryption.org, as SEAL enforces it.
STANDARD = {
    (1024, 27): 128,
    (1024, 19): 192,
    (1024, 14): 256,
    (2048, 54): 128,
    (2048, 37): 192,
    (2048, 29): 256,
    (4096, 109): 128,
    (4096, 75): 192,
    (4096, 58): 256,
}


@pytest.mark.parametrize(("ring", "level"), STANDARD.items())
def test_the_estimate_gives_the_rows_of_the_standard(ring: tuple[int, int], level: int) -> None:
    """Each row is the largest modulus at that level, so its estimate is just above it."""
    found = primal_attack(*ring, 8 / sqrt(2 * np.pi), sqrt(2 / 3)).standard_bits
    assert level - 1 < found < level + 10
    larger = primal_attack(ring[0], ring[1] + 1, 8 / sqrt(2 * np.pi), sqrt(2 / 3)).standard_bits
    assert larger < found


def test_seal_enforces_the_same_rows() -> None:
    import tenseal.sealapi as seal

    levels = {
        128: seal.SEC_LEVEL_TYPE.TC128,
        192: seal.SEC_LEVEL_TYPE.TC192,
        256: seal.SEC_LEVEL_TYPE.TC256,
    }
    for (degree, bits), level in STANDARD.items():
        assert seal.CoeffModulus.MaxBitCount(degree, levels[level]) == bits


@pytest.mark.parametrize(
    ("width", "classical", "quantum"),
    [
        (3.2, 215, 195),  # proven for any two honest clients
        (width_given_sum(6.4, 2), 225, 204),
        (width_given_sum(6.4, 3), 228, 207),
    ],
)
def test_the_construction_is_far_above_128_bits(
    width: float, classical: float, quantum: float
) -> None:
    found = primal_attack(2048, 32, width)
    assert classical < found.core_svp_bits < classical + 6
    assert quantum < found.quantum_bits < quantum + 6
    assert found.standard_bits > 240


def test_harder_with_wider_errors_and_easier_with_larger_moduli() -> None:
    bits = [primal_attack(2048, 32, width).core_svp_bits for width in (1, 2, 4, 8)]
    assert bits == sorted(bits) and len(set(bits)) == 4
    bits = [primal_attack(2048, modulus, 3.2).core_svp_bits for modulus in (24, 32, 40, 54)]
    assert bits == sorted(bits, reverse=True) and len(set(bits)) == 4


def test_a_key_given_the_sum_of_two_is_gaussian_of_4_53_around_half() -> None:
    """The conditional distribution, worked out from the probabilities themselves."""
    weights = tables_of(SIGMA).weights
    for total in (0, 1, -7, 25, 60):
        support = [k for k in weights if total - k in weights]
        given = np.array([float(weights[k]) * float(weights[total - k]) for k in support])
        given /= given.sum()
        wanted = np.exp(-((np.array(support) - total / 2) ** 2) / (6.4**2))
        wanted /= wanted.sum()
        assert np.abs(given - wanted).max() < 1e-12
        middle = float(given @ support)
        assert middle == pytest.approx(total / 2, abs=1e-9)
        width = sqrt(float(given @ (np.array(support) - middle) ** 2))
        assert width == pytest.approx(width_given_sum(6.4, 2), rel=1e-6)


def given_sum(single: dict[int, float], total: int) -> float:
    """The most likely value's probability for one of three, given their sum."""
    values = np.array(list(single))
    law = np.zeros(2 * values.max() + 1)
    law[values - values.min()] = list(single.values())
    two = np.convolve(law, law)
    joint = [
        p * two[total - k - 2 * values.min()]
        for k, p in single.items()
        if 0 <= total - k - 2 * values.min() < two.size
    ]
    return float(max(joint) / sum(joint))


def test_ternary_keys_are_given_away_by_their_sum_and_gaussian_ones_are_not() -> None:
    """Of three ternary keys every thirteenth coefficient is read off; of ours none is."""
    rng = np.random.default_rng(1)
    ternary = rng.integers(-1, 2, (3, 200_000))
    read = np.abs(ternary.sum(axis=0)) == 3
    assert 0.072 < read.mean() < 0.076  # 2 / 27
    assert (ternary[0][read] == ternary.sum(axis=0)[read] // 3).all()
    assert given_sum({-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}, 3) == 1.0
    assert given_sum({-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}, 2) == pytest.approx(2 / 3)

    whole = float(2**128)
    ours = {k: weight / whole for k, weight in tables_of(SIGMA).weights.items()}
    # 70 is more than six standard deviations: about one coefficient of a sum in 10^9.
    for total in range(-70, 71):
        assert given_sum(ours, total) < 0.08
    keys = draw_gaussian(600_000, SIGMA, keystream(bytes(32), bytes(16))).astype(np.int64)
    sums = keys.reshape(3, -1).sum(axis=0)
    spread = keys.reshape(3, -1)[0] - sums / 3
    assert spread.std() == pytest.approx(width_given_sum(6.4, 3), rel=0.01)
    # Where the sum is far out, a key is no better known than elsewhere.
    assert spread[np.abs(sums) > 25].std() == pytest.approx(width_given_sum(6.4, 3), rel=0.03)
