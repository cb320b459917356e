"""``ckks``: sums under homomorphic encryption (Cheon, Kim, Kim, Song 2017), with TenSEAL.

**Release rule.** Raw CKKS decryptions give the whole secret key away (Li and Micciancio 2021),
and so do their float32 roundings. Clients therefore send multiples of an absolute grid, and
:meth:`Ckks.open` releases integers: the decrypted sum rounded to that grid, padding dropped. As
long as noise stays below half a step the release is a function of the inputs alone and says
nothing about the key.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qfl.crypto.ckks_parameters import CkksParameters, choose_parameters
from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.scheme import KeyPair
from qfl.errors import PayloadError


@dataclass(frozen=True)
class Ckks:
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
        import tenseal

        context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            self.parameters.degree,
            coeff_mod_bit_sizes=self.parameters.prime_bits,
            n_threads=1,
        )
        context.global_scale = 2.0**self.parameters.scale_bits
        flags = {"save_galois_keys": False, "save_relin_keys": False}
        public = context.serialize(save_public_key=True, save_secret_key=False, **flags)
        secret = context.serialize(save_public_key=False, save_secret_key=True, **flags)
        return KeyPair(public, secret, hashlib.sha256(public).hexdigest()[:16])

    def protect(self, values: IntVector, public_key: bytes) -> bytes:
        """Encrypt grid integers; ciphertexts of ``degree / 2`` values each, length-prefixed.

        Raises:
            RangeError: A value exceeds the capacity; a sum past the modulus would wrap silently.
            PayloadError: The public key cannot be read or is not of these parameters.
        """
        check_capacity(values, self.sums)
        import tenseal

        context = _public_context(public_key, self.parameters)
        scaled, slots = values * self.sums.step, self.parameters.slots
        parts = []
        for start in range(0, max(values.size, 1), slots):
            chunk = scaled[start : start + slots].tolist() or [0.0]
            part = tenseal.ckks_vector(context, chunk).serialize()
            parts.append(struct.pack("<I", len(part)) + part)
        return b"".join(parts)

    def accumulator(self, length: int, public_key: bytes) -> _CkksSum:
        """A sum of ciphertexts; needs the public key only."""
        return _CkksSum(self, length, public_key)

    def open(self, body: bytes, length: int, secret_key: bytes) -> IntVector:
        """Decrypt a sum and release it on the grid.

        Raises:
            PayloadError: The body is malformed, or decrypts to values out of range.
        """
        context = _secret_context(secret_key, self.parameters)
        decrypted = np.concatenate(
            [np.array(part.decrypt()) for part in self._load(body, length, context)]
        )
        steps = np.rint(decrypted[:length] / self.sums.step)
        if not (np.isfinite(steps).all() and (np.abs(steps) <= 2 * self.sums.capacity).all()):
            raise PayloadError("the sum decrypts to values out of range: it is not a sum of ours")
        return steps.astype(np.int64)

    def _load(self, body: bytes, length: int, context: Any) -> list[Any]:
        """Ciphertexts of a body, sizes checked before anything is parsed."""
        import tenseal

        slots = self.parameters.slots
        count = max(1, -(-length // slots))
        largest = 2 * self.parameters.degree * 8 + 1024
        parts: list[Any] = []
        position = 0
        for index in range(count):
            if position + 4 > len(body):
                raise PayloadError(f"{length} values need {count} ciphertexts; found {index}")
            (width,) = struct.unpack_from("<I", body, position)
            position += 4
            if width > largest or position + width > len(body):
                raise PayloadError(
                    f"ciphertext {index} claims {width} bytes; {len(body) - position} follow, and "
                    f"at most {largest} are allowed"
                )
            try:
                part = tenseal.ckks_vector_from(context, body[position : position + width])
                inner = part.ciphertext()
                shape = (part.size(), len(inner), inner[0].size(), inner[0].scale)
                usable = inner[0].is_ntt_form() and not inner[0].is_transparent()
            except Exception:
                raise PayloadError(
                    f"ciphertext {index} cannot be read under these parameters"
                ) from None
            size = max(1, min(slots, length - index * slots))
            wanted = (size, 1, 2, 2.0**self.parameters.scale_bits)
            if shape != wanted:
                raise PayloadError(
                    f"ciphertext {index} has (values, ciphertexts, polynomials, scale) "
                    f"{shape}; expected {wanted}"
                )
            if not usable:
                raise PayloadError(f"ciphertext {index} is not encrypted, or not in NTT form")
            parts.append(part)
            position += width
        if position != len(body):
            raise PayloadError(f"{len(body) - position} bytes follow the last ciphertext")
        return parts


class _CkksSum:
    def __init__(self, scheme: Ckks, length: int, public_key: bytes) -> None:
        self._scheme, self._length = scheme, length
        self._context = _public_context(public_key, scheme.parameters)
        self._parts: list[Any] = []
        self._added = 0

    def add(self, body: bytes) -> None:
        if self._added >= self._scheme.sums.additions:
            raise PayloadError(
                f"more than {self._scheme.sums.additions} contributions: these parameters are "
                "not sound for another one"
            )
        parts = self._scheme._load(body, self._length, self._context)
        try:
            # The sum goes into the newcomer: one that SEAL refuses leaves the sum as it was.
            for mine, theirs in zip(self._parts, parts, strict=bool(self._parts)):
                theirs.add_(mine)
        except Exception as error:
            raise PayloadError(f"a contribution cannot be added: {error}") from None
        self._parts = parts
        self._added += 1

    def result(self) -> bytes:
        bodies = [part.serialize() for part in self._parts]
        return b"".join(struct.pack("<I", len(part)) + part for part in bodies)


@lru_cache(maxsize=8)
def _public_context(key: bytes, parameters: CkksParameters) -> Any:
    context = _parse(key, parameters)
    if context.is_private():
        raise PayloadError("this public key holds a secret key: it must never leave its holder")
    if not context.has_public_key():
        raise PayloadError("this key holds no public key: nothing can be encrypted with it")
    return context


def _secret_context(key: bytes, parameters: CkksParameters) -> Any:
    # Not cached: a secret key must not outlive its use.
    context = _parse(key, parameters)
    if not context.is_private():
        raise PayloadError("this key holds no secret key: it opens nothing")
    return context


def _parse(key: bytes, parameters: CkksParameters) -> Any:
    import tenseal
    import tenseal.sealapi  # lets SEAL's moduli be read

    try:
        context = tenseal.context_from(key, n_threads=1)
        seal = context.seal_context().data.key_context_data().parms()
        bits = [prime.bit_count() for prime in seal.coeff_modulus()]
        found = (seal.poly_modulus_degree(), bits, context.global_scale)
    except Exception:
        raise PayloadError("the key cannot be read as a CKKS context") from None
    wanted = (parameters.degree, parameters.prime_bits, 2.0**parameters.scale_bits)
    if found != wanted:
        raise PayloadError(
            f"the key has (degree, bits of the primes, scale) {found}; this run expects {wanted}"
        )
    return context
