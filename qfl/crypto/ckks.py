"""``ckks``: sums under homomorphic encryption (Cheon, Kim, Kim, Song 2017), with TenSEAL.

**Release rule.** Raw CKKS decryptions give the whole secret key away (Li and Micciancio 2021),
and so do their float32 roundings. Clients therefore send multiples of an absolute grid, and
:meth:`Ckks.open` releases integers: the decrypted sum rounded to that grid, padding dropped. As
long as noise stays below half a step the release is a function of the inputs alone and says
nothing about the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qfl.crypto.ckks_parameters import CkksParameters, choose_parameters
from qfl.crypto.ckks_wire import check_public_key, new_context, wire_of
from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.members import MemberKeys, Roster
from qfl.crypto.scheme import KeyPair, OpensWhole, WholeSum
from qfl.errors import PayloadError


@dataclass(frozen=True)
class Ckks(OpensWhole):
    """Addition-only CKKS for one run.

    Example:
        >>> sums = SumRange(fraction_bits=20, bound=2.0, additions=3)
        >>> scheme = Ckks.for_sums(length=2, sums=sums)
        >>> keys = scheme.generate_keys()
        >>> total = scheme.accumulator(2, keys.public)
        >>> for vector in ([1, -2], [3, 5], [10, 10]):
        ...     total.add(scheme.protect(np.array(vector), keys.public))
        >>> scheme.open(total.result(), 2, keys.secret).tolist()
        [14, 13]
    """

    sums: SumRange
    parameters: CkksParameters
    name: str = "ckks"
    has_keys: bool = True

    @staticmethod
    def for_sums(length: int, sums: SumRange) -> Ckks:
        """Choose parameters for vectors of up to ``length`` values."""
        return Ckks(sums, choose_parameters(length, sums))

    def generate_keys(self) -> KeyPair:
        """Keys for one run; TenSEAL draws them from the operating system's randomness."""
        context = new_context(self.parameters)
        flags = {"save_galois_keys": False, "save_relin_keys": False}
        public = context.serialize(save_public_key=True, save_secret_key=False, **flags)
        secret = context.serialize(save_public_key=False, save_secret_key=True, **flags)
        packed = wire_of(self.parameters).pack_public_key(public)
        return KeyPair(packed, secret, hashlib.sha256(packed).hexdigest()[:16])

    def protect(
        self,
        values: IntVector,
        key: bytes,
        *,
        place: str = "",
        signer: MemberKeys | None = None,
    ) -> bytes:
        """Encrypt grid integers, ``degree / 2`` in a ciphertext.

        Raises:
            RangeError: A value exceeds the capacity; a sum past the modulus would wrap silently.
            PayloadError: The public key cannot be read or is not of these parameters.
        """
        check_capacity(values, self.sums)
        import tenseal

        context = _public_context(key, self.parameters)
        wire = wire_of(self.parameters)
        scaled, slots = values * self.sums.step, self.parameters.slots
        parts = []
        for start in range(0, max(values.size, 1), slots):
            chunk = scaled[start : start + slots].tolist() or [0.0]
            parts.append(wire.pack_ciphertext(tenseal.ckks_vector(context, chunk).serialize()))
        return b"".join(parts)

    def accumulator(self, length: int, public_key: bytes) -> _CkksSum:
        """A sum of ciphertexts; needs the public key only.

        Raises:
            PayloadError: The public key is not of these parameters.
        """
        check_public_key(public_key, self.parameters)
        return _CkksSum(self, length)

    def open(
        self,
        body: bytes,
        length: int,
        secret_key: bytes,
        *,
        place: str = "",
        roster: Roster | None = None,
    ) -> IntVector:
        """Decrypt a sum and release it on the grid.

        Raises:
            PayloadError: The body is malformed, or decrypts to values out of range.
        """
        import tenseal

        context = _secret_context(secret_key, self.parameters)
        wire, slots = wire_of(self.parameters), self.parameters.slots
        parts = wire.unpack(body, length)
        decrypted = np.zeros(length)
        for index, part in enumerate(parts):
            start = index * slots
            size = max(1, min(slots, length - start))
            found = tenseal.ckks_vector_from(context, wire.vector(part, size)).decrypt()
            decrypted[start : start + size] = found[: length - start]
        steps = np.rint(decrypted / self.sums.step)
        if not (np.isfinite(steps).all() and (np.abs(steps) <= 2 * self.sums.capacity).all()):
            raise PayloadError("the sum decrypts to values out of range: it is not a sum of ours")
        return steps.astype(np.int64)


class _CkksSum(WholeSum):
    """Ciphertexts are added coefficient by coefficient, modulo the data prime."""

    def __init__(self, scheme: Ckks, length: int) -> None:
        self._wire = wire_of(scheme.parameters)
        self._most, self._length = scheme.sums.additions, length
        count = max(1, -(-length // scheme.parameters.slots))
        self._sum = np.zeros((count, 2 * scheme.parameters.degree), dtype=np.uint64)
        self._added = 0

    def add(self, body: bytes) -> None:
        if self._added >= self._most:
            raise PayloadError(
                f"more than {self._most} contributions: these parameters are not sound for "
                "another one"
            )
        self._sum += self._wire.unpack(body, self._length)
        prime = np.uint64(self._wire.primes[0])
        np.subtract(self._sum, prime, out=self._sum, where=self._sum >= prime)
        self._added += 1

    def result(self) -> bytes:
        return self._wire.pack_sums(self._sum)


@lru_cache(maxsize=8)
def _public_context(key: bytes, parameters: CkksParameters) -> Any:
    import tenseal

    serialised = wire_of(parameters).context(key)
    try:
        return tenseal.context_from(serialised, n_threads=1)
    except Exception:
        raise PayloadError("SEAL refuses the public key") from None


def _secret_context(key: bytes, parameters: CkksParameters) -> Any:
    # Not cached: a secret key must not outlive its use.
    import tenseal
    import tenseal.sealapi  # lets SEAL's primes be read

    try:
        context = tenseal.context_from(key, n_threads=1)
        seal = context.seal_context().data.key_context_data().parms()
        bits = [prime.bit_count() for prime in seal.coeff_modulus()]
        found = (seal.poly_modulus_degree(), bits, context.global_scale)
    except Exception:
        raise PayloadError("the secret key cannot be read as a CKKS context") from None
    wanted = (parameters.degree, parameters.prime_bits, 2.0**parameters.scale_bits)
    if found != wanted:
        raise PayloadError(
            f"the secret key has (degree, bits of the primes, scale) {found}; this run expects "
            f"{wanted}"
        )
    if not context.is_private():
        raise PayloadError("this key holds no secret key: it opens nothing")
    return context
