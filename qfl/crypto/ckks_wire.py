"""How CKKS ciphertexts and public keys travel: their coefficients, at fixed width.

What others send never reaches SEAL's own parser: SEAL 4.3 ends the process on a crafted
compressed object, which no ``except`` can stop. Here lengths are exact, every coefficient is
checked against its prime, and the objects that SEAL is given are rebuilt around coefficients from
a template made in this process. It is also smaller, by a sixth, than what SEAL writes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qfl.crypto.ckks_parameters import CkksParameters
from qfl.crypto.seal_format import Coefficients, field, fields_of, number, split_object
from qfl.errors import PayloadError

_KEY_MAGIC = b"ckks"
_KEY_HEAD = struct.Struct("<4s4H")


@dataclass(frozen=True)
class Wire:
    """Formats for one set of parameters.

    Attributes:
        parameters: Degree, primes and scale.
        primes: The primes themselves, data prime first.
        ciphertext: SEAL's bytes around the coefficients of a ciphertext.
        public_key: The same of a public key.
        seal_parameters: SEAL's encryption parameters.
        flags: TenSEAL's flags of a context.
    """

    parameters: CkksParameters
    primes: tuple[int, ...]
    ciphertext: bytes
    public_key: bytes
    seal_parameters: bytes
    flags: int

    @property
    def ciphertext_bytes(self) -> int:
        """Size of one ciphertext."""
        return 2 * self.parameters.degree * _width(self.primes[0])

    def pack_ciphertext(self, vector: bytes) -> bytes:
        """The coefficients of one serialised ``ckks_vector`` of this process."""
        ciphertext = fields_of(vector)[2]
        return _pack(split_object(ciphertext, 2 * self.parameters.degree)[1], self.primes[0])

    def pack_sums(self, sums: Coefficients) -> bytes:
        """Ciphertexts in the form in which they travel; shape (ciphertexts, 2 * degree)."""
        return _pack(sums, self.primes[0])

    def unpack(self, body: bytes, length: int) -> Coefficients:
        """Coefficients of the ciphertexts of ``length`` values.

        Raises:
            PayloadError: The size is wrong, a coefficient is too large, or nothing is encrypted.
        """
        count = max(1, -(-length // self.parameters.slots))
        if len(body) != count * self.ciphertext_bytes:
            raise PayloadError(
                f"{length} values need {count} ciphertexts of {self.ciphertext_bytes} bytes; found "
                f"{len(body)} bytes"
            )
        found = _unpack(body, self.primes[0]).reshape(count, 2, self.parameters.degree)
        if not found[:, 1].any(axis=1).all():
            raise PayloadError("a ciphertext is not encrypted: its second half is zero")
        return found.reshape(count, -1)

    def vector(self, coefficients: Coefficients, size: int) -> bytes:
        """One ciphertext as a serialised ``ckks_vector`` of ``size`` values."""
        return (
            field(1, number(size))
            + field(2, self.ciphertext + coefficients.astype("<u8").tobytes())
            + _scale(3, self.parameters)
        )

    def pack_public_key(self, context: bytes) -> bytes:
        """The public key of a context serialised in this process."""
        degree = self.parameters.degree
        key = fields_of(fields_of(context)[2])[1]
        blocks = split_object(key, 4 * degree)[1].reshape(2, 2, degree)
        parts = [_pack(blocks[:, place], prime) for place, prime in enumerate(self.primes)]
        return _key_head(self.parameters) + b"".join(parts)

    def context(self, public_key: bytes) -> bytes:
        """A public key as a serialised context.

        Raises:
            PayloadError: It is no public key, or one of other parameters.
        """
        check_public_key(public_key, self.parameters)
        degree = self.parameters.degree
        blocks = np.empty((2, 2, degree), dtype=np.uint64)
        start = _KEY_HEAD.size
        for place, prime in enumerate(self.primes):
            size = 2 * degree * _width(prime)
            part = public_key[start : start + size]
            if len(part) != size:
                raise PayloadError(f"the public key ends after {len(public_key)} bytes")
            blocks[:, place] = _unpack(part, prime).reshape(2, degree)
            start += size
        if start != len(public_key):
            raise PayloadError(f"{len(public_key) - start} bytes follow the public key")
        key = self.public_key + blocks.astype("<u8").tobytes()
        inner = field(1, key) + b"\x10" + number(self.flags) + _scale(3, self.parameters)
        return field(1, self.seal_parameters) + field(2, inner)


def check_public_key(public_key: bytes, parameters: CkksParameters) -> None:
    """Refuse what is no public key of these parameters, by its first bytes.

    Raises:
        PayloadError: Names both sides.
    """
    if not public_key.startswith(_KEY_MAGIC) or len(public_key) < _KEY_HEAD.size:
        raise PayloadError(
            "not a CKKS public key; if it is a secret key, it must never leave its holder"
        )
    if not public_key.startswith(_key_head(parameters)):
        found = CkksParameters(*_KEY_HEAD.unpack_from(public_key)[1:])
        raise PayloadError(f"the public key is of {found}; this run expects {parameters}")


@lru_cache(maxsize=8)
def wire_of(parameters: CkksParameters) -> Wire:
    """Formats for these parameters; made once, from a context that is thrown away."""
    import tenseal
    import tenseal.sealapi  # lets SEAL's primes be read

    context = new_context(parameters)
    made = tenseal.ckks_vector(context, [0.0]).serialize()
    outer = fields_of(context.serialize(save_galois_keys=False, save_relin_keys=False))
    public = fields_of(outer[2])
    seal = context.seal_context().data.key_context_data().parms()
    return Wire(
        parameters=parameters,
        primes=tuple(prime.value() for prime in seal.coeff_modulus()),
        ciphertext=split_object(fields_of(made)[2], 2 * parameters.degree)[0],
        public_key=split_object(public[1], 4 * parameters.degree)[0],
        seal_parameters=outer[1],
        flags=public.get(2, 0),
    )


def new_context(parameters: CkksParameters) -> Any:
    """A TenSEAL context with new keys, from the operating system's randomness."""
    import tenseal

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        parameters.degree,
        coeff_mod_bit_sizes=parameters.prime_bits,
        n_threads=1,
    )
    context.global_scale = 2.0**parameters.scale_bits
    return context


def _width(prime: int) -> int:
    return -(-prime.bit_length() // 8)


def _pack(coefficients: Coefficients, prime: int) -> bytes:
    octets = np.ascontiguousarray(coefficients, dtype="<u8").view(np.uint8).reshape(-1, 8)
    return octets[:, : _width(prime)].tobytes()


def _unpack(packed: bytes, prime: int) -> Coefficients:
    width = _width(prime)
    octets = np.zeros((len(packed) // width, 8), dtype=np.uint8)
    octets[:, :width] = np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)
    found = octets.view("<u8").ravel().astype(np.uint64, copy=False)
    if (found >= prime).any():
        raise PayloadError(
            f"a coefficient is {found.max()}, past the prime {prime}: damaged, or of other "
            "parameters"
        )
    return found


def _key_head(parameters: CkksParameters) -> bytes:
    return _KEY_HEAD.pack(
        _KEY_MAGIC,
        parameters.degree,
        parameters.data_bits,
        parameters.special_bits,
        parameters.scale_bits,
    )


def _scale(place: int, parameters: CkksParameters) -> bytes:
    return bytes([place << 3 | 1]) + struct.pack("<d", 2.0**parameters.scale_bits)
