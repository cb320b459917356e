"""Releases of one key holder, with all that an attacker could hold of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from key_equations import Equations
from modular import Integers, reduced
from numpy.typing import NDArray

from qfl.crypto import Ckks, CkksParameters, Header, KeyHolder, from_grid, pack, to_grid
from qfl.crypto.rlwe_cipher import decrypted
from qfl.crypto.rlwe_keys import _secret, decryptor
from qfl.crypto.rlwe_ring import SealRing, seal_ring
from qfl.crypto.seal_objects import SealFile

Reals = NDArray[np.float64]

CLIENTS = 2  # the fewest that a key holder opens a sum of, and so the least noise
SIZES = {f"1e-{power}": 10.0**-power for power in range(1, 7)}
UPDATES = (*SIZES, "zero", "frozen")
_FROZEN_SHARE, _FROZEN_SIZE = 0.95, 1e-3


@dataclass(frozen=True)
class Releases:
    """Sums under one key. All but the ciphertexts: shape (ciphertexts, slots), in real units.

    Attributes:
        parameters: Of the scheme.
        ciphertexts: Two for each release, one after the other; shape (ciphertexts, 2, degree).
        released: What the key holder gave out.
        inputs: What the clients put in, added up in the clear.
        raw: What SEAL decrypts and decodes, before it is rounded to the grid.
        secret: The secret key's value at each point.
    """

    parameters: CkksParameters
    ciphertexts: Integers
    released: Reals
    inputs: Reals
    raw: Reals
    secret: Integers

    def equations(self, opened: Reals, releases: int) -> Equations:
        """What follows if these are the decrypted values of the first releases."""
        prime = seal_ring(self.parameters.ring).prime
        ciphertexts = self.ciphertexts[: 2 * releases]
        known, here = ciphertexts[:, 0], ciphertexts[:, 1]  # c0 and c1
        twice = self._encoded_twice(opened[: 2 * releases])
        # SEAL keeps the value at 1/z at the mirrored place.
        right = reduced(reduced(twice - known, prime) - known[:, ::-1], prime)
        return Equations(right, here, here[:, ::-1], prime)

    def single(self) -> Reals:
        """The raw values in float32."""
        return self.raw.astype(np.float32).astype(np.float64)

    def coefficient_errors(self, opened: Reals) -> Reals:
        """Typical error of a coefficient that is encoded at twice the scale, by ciphertext.

        A coefficient is 2 / N times the sum of N / 2 slots, each with a cosine. Errors well below
        1/2 are rounded away.
        """
        errors = np.sqrt(((opened - self.raw) ** 2).mean(axis=1))
        return np.asarray(2 * self.parameters.scale * errors / np.sqrt(self.parameters.degree))

    def _encoded_twice(self, opened: Reals) -> Integers:
        """The values of m(X) + m(1/X), if the real part of m decodes to these."""
        import tenseal.sealapi as seal

        ring = seal_ring(self.parameters.ring)
        plain, encoder, found = seal.Plaintext(), seal.CKKSEncoder(ring.context), []
        with SealFile() as file:
            # Larger values at a smaller scale are the same; SEAL refuses scales near the prime.
            for values in (opened * 2**20).tolist():
                encoder.encode(values, self.parameters.scale / 2.0**19, plain)
                found.append(ring.plain.values(file.save(plain)))
        return np.stack(found).astype(np.int64)


def releases_of(scheme: Ckks, updates: Sequence[str], seed: int = 7) -> Releases:
    """One release for each kind of update, round by round, by one key holder."""
    holder = KeyHolder.create("run", scheme, min_clients=CLIENTS)
    ring, slots = seal_ring(scheme.parameters.ring), scheme.parameters.slots
    rng = np.random.default_rng(seed)
    frozen = rng.random(2 * slots) < _FROZEN_SHARE
    form = scheme._total(2 * slots)
    ciphertexts, released, inputs, raw = [], [], [], []
    for number, kind in enumerate(updates, 1):
        steps = [
            to_grid(_update(kind, scheme, frozen, rng), 1 / CLIENTS, scheme.sums)
            for _ in range(CLIENTS)
        ]
        body = _sum_of(scheme, holder, steps)
        header = Header("ckks", holder.keys.key_id, "run", number, "train", 2 * slots, CLIENTS)
        released.append(from_grid(holder.open(pack(header, body)), scheme.sums))
        inputs.append(from_grid(np.sum(steps, axis=0), scheme.sums))
        raw.append(_raw(scheme, body, holder.keys.secret))
        ciphertexts.append(np.stack(form.read(body, 0, form.rows), axis=1).astype(np.int64))
    return Releases(
        parameters=scheme.parameters,
        ciphertexts=np.concatenate(ciphertexts),
        released=np.reshape(released, (-1, slots)),
        inputs=np.reshape(inputs, (-1, slots)),
        raw=np.reshape(raw, (-1, slots)),
        secret=_points(holder.keys.secret, scheme.parameters, ring),
    )


def _update(kind: str, scheme: Ckks, frozen: NDArray[np.bool_], rng: np.random.Generator) -> Reals:
    """Of one client; the mean over clients is of the size that is named."""
    if kind == "zero":
        return np.zeros(frozen.size)
    size = SIZES.get(kind, _FROZEN_SIZE) * np.sqrt(CLIENTS)
    values = np.clip(rng.standard_normal(frozen.size) * size, -scheme.sums.bound, scheme.sums.bound)
    return np.where(frozen, 0.0, values) if kind == "frozen" else values


def _sum_of(scheme: Ckks, holder: KeyHolder, steps: list[NDArray[np.int64]]) -> bytes:
    shared = scheme.parameters.trust == "shared"
    key = holder.keys.secret if shared else holder.keys.public
    total = scheme.accumulator(steps[0].size, holder.keys.public)
    for contribution in steps:
        total.add(scheme.protect(contribution, key))
    return bytes(total.result())


def _raw(scheme: Ckks, body: bytes, secret: bytes) -> Reals:
    import tenseal.sealapi as seal

    ring = seal_ring(scheme.parameters.ring)
    encoder, opener = seal.CKKSEncoder(ring.context), decryptor(secret, scheme.parameters)
    form = scheme._total(2 * scheme.parameters.slots)
    plains = decrypted(body, opener, ring, form)
    found = [encoder.decode_double(plain) for plain in plains]
    return np.asarray(found, np.float64) / scheme.parameters.scale


def _points(secret: bytes, parameters: CkksParameters, ring: SealRing) -> Integers:
    made = _secret(secret, parameters)  # its data lives as long as it does
    points = made.data()
    return np.array([points[i] for i in range(ring.degree)], np.int64)
