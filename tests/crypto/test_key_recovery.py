"""The attack on CKKS of Li and Micciancio (Eurocrypt 2021), and that released sums withstand it.

A ciphertext (c0, c1) decrypts to m = c0 + c1 s modulo q. Whoever is given m exactly solves for the
secret s. Decoded slots are real here, so what is given is the real part of m only: at an evaluation
point z of the ring, and at its conjugate 1/z,

    c1(z) s(z) + c1(1/z) s(1/z) = 2 Re m(z) - c0(z) - c0(1/z).

Two sums under one key give two such equations in the two unknowns s(z) and s(1/z). The attacker
encodes the decrypted values again, at twice the scale; where the rounding of the encoding takes
every error away, each point of the secret is found.

Here the attack is written out plainly, for one sum of two ciphertexts;
``tests/attacks/test_key_recovery_many.py`` runs it for all parameters, on up to fifty sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qfl.crypto import (
    Ckks,
    CkksParameters,
    Header,
    KeyHolder,
    SumRange,
    choose_parameters,
    from_grid,
    pack,
)
from qfl.crypto.rlwe_ring import seal_ring

Integers = NDArray[np.object_]

SMALL = CkksParameters(2048, 40, 14, 2**37)
LARGE = CkksParameters(4096, 42, 20, 2**39)
SHARED = CkksParameters(2048, 36, 0, 2**33, "shared")
SIZES = [1e-1, 1e-3, 1e-6, 0.0]
CLIENTS = 10


@dataclass(frozen=True)
class Round:
    """Two summed ciphertexts of one run, with everything that could be made of them."""

    parameters: CkksParameters
    ciphertexts: NDArray[np.uint64]
    raw: NDArray[np.float64]
    released: NDArray[np.float64]
    secret: Integers

    def attack(self, opened: NDArray[np.float64]) -> float:
        """Share of the secret key's points that follow from opened values."""
        slots, q = self.parameters.slots, seal_ring(self.parameters.ring).prime
        equations = []
        for index, (first, second) in enumerate(self.ciphertexts):
            c0, c1 = first.astype(object), second.astype(object)
            twice = self._encode_twice(opened[index * slots : (index + 1) * slots])
            # SEAL keeps the value at 1/z at the mirrored place.
            equations.append(((twice - c0 - c0[::-1]) % q, c1, c1[::-1]))
        (right1, here1, there1), (right2, here2, there2) = equations
        determinant = (here1 * there2 - here2 * there1) % q
        inverse = np.array([pow(int(value), -1, q) if value else 0 for value in determinant])
        found = (right1 * there2 - right2 * there1) * inverse.astype(object) % q
        return float((found == self.secret).mean())

    def _encode_twice(self, values: NDArray[np.float64]) -> Integers:
        import tenseal.sealapi as seal

        encoded = seal.Plaintext()
        encoder = seal.CKKSEncoder(seal_ring(self.parameters.ring).context)
        encoder.encode(values.tolist(), 2.0 * self.parameters.scale, encoded)
        return np.array([encoded[i] for i in range(self.parameters.degree)], dtype=object)


def play_round(
    parameters: CkksParameters, size: float, internals: Any, grid_bits: int = 20
) -> Round:
    """Ten clients' updates add up to coordinates of this size; opened raw, and as qfl does."""
    scheme = Ckks(SumRange(grid_bits, bound=2.0, additions=CLIENTS), parameters)
    holder = KeyHolder.create("run", scheme, min_clients=2)
    length = 2 * parameters.slots
    rng = np.random.default_rng(7)
    total = scheme.accumulator(length, holder.keys.public)
    for _ in range(CLIENTS):
        share = rng.standard_normal(length) * size / np.sqrt(CLIENTS)
        steps = np.rint(share * 2**grid_bits).astype(np.int64)
        shared = parameters.trust == "shared"
        total.add(scheme.protect(steps, holder.keys.secret if shared else holder.keys.public))
    header = Header("ckks", holder.keys.key_id, "run", 1, "train", length, CLIENTS)
    released = from_grid(holder.open(pack(header, total.result())), scheme.sums)

    return Round(
        parameters=parameters,
        ciphertexts=internals.ciphertexts(scheme, total.result(), length),
        raw=internals.raw(scheme, total.result(), length, holder.keys.secret),
        released=released,
        secret=internals.secret_points(scheme, holder.keys.secret),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parameters", [SMALL, LARGE, SHARED], ids=["2048", "4096", "shared"])
def test_raw_sums_give_the_key_away_and_released_sums_do_not(
    parameters: CkksParameters, size: float, internals: Any
) -> None:
    played = play_round(parameters, size, internals)
    # What is released lies within half a step of the raw sum, and is no raw sum.
    assert np.abs(played.raw - played.released).max() < 2.0**-21
    assert played.attack(played.raw) > 0.99
    assert played.attack(played.released) == 0.0


@pytest.mark.parametrize(
    ("grid_bits", "size"), [(14, 1e-2), (17, 1e-3), (20, 1e-4), (20, 1e-6), (20, 0.0), (22, 1e-5)]
)
def test_rounding_to_float32_does_not_protect_small_updates(
    grid_bits: int, size: float, internals: Any
) -> None:
    """The relative precision of float32 is finer than the noise where values are small."""
    parameters = choose_parameters(2048, SumRange(grid_bits, 2.0, CLIENTS))
    played = play_round(parameters, size, internals, grid_bits)
    assert played.attack(played.raw.astype(np.float32).astype(np.float64)) > 0.99
    assert played.attack(played.released) == 0.0


def test_the_attack_finds_nothing_where_there_is_nothing_to_find(internals: Any) -> None:
    """Values wrong by 2^-13 of a step are of no use to it: recovery is no artefact."""
    played = play_round(SMALL, 1e-2, internals)
    assert played.attack(played.raw + 2.0**-33) == 0.0
    assert played.attack(np.zeros_like(played.raw)) == 0.0
