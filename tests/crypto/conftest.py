"""Keys and parameters that several tests share, and what an attacker or a measurement looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qfl.crypto import Ckks, CkksParameters, KeyPair, Packed, SumRange
from qfl.crypto.rlwe_keys import decryptor
from qfl.crypto.rlwe_ring import seal_ring
from qfl.crypto.seal_objects import SealFile

IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class KeyedScheme:
    scheme: Any
    keys: KeyPair

    @property
    def key(self) -> bytes:
        """What clients encrypt with."""
        shared = self.scheme.parameters.trust == "shared"
        return self.keys.secret if shared else self.keys.public

    @property
    def per_ciphertext(self) -> int:
        """Values that fill a ciphertext."""
        parameters = self.scheme.parameters
        if isinstance(parameters, CkksParameters):
            return int(parameters.slots)
        return int(parameters.lanes * parameters.degree)

    def protect(self, vector: IntVector) -> bytes:
        return bytes(self.scheme.protect(np.asarray(vector, np.int64), self.key))

    def total(self, length: int) -> Any:
        return self.scheme.accumulator(length, self.keys.public)

    def sum_of(self, vectors: list[IntVector]) -> bytes:
        total = self.total(len(vectors[0]))
        for vector in vectors:
            total.add(self.protect(vector))
        return bytes(total.result())

    def open(self, body: bytes, length: int) -> IntVector:
        return np.asarray(self.scheme.open(body, length, self.keys.secret))


def keyed_scheme(scheme: Any) -> KeyedScheme:
    return KeyedScheme(scheme, scheme.generate_keys())


@pytest.fixture(scope="session")
def with_keys() -> Any:
    """Makes keys for a scheme."""
    return keyed_scheme


@pytest.fixture(
    scope="session",
    params=[
        CkksParameters(2048, 40, 14, 2**37),
        CkksParameters(4096, 41, 20, 2**38),
        CkksParameters(2048, 38, 0, 2**35, "shared"),
        CkksParameters(4096, 39, 0, 2**36, "shared"),
    ],
    ids=lambda parameters: f"{parameters.trust}-{parameters.degree}",
)
def keyed(request: pytest.FixtureRequest) -> KeyedScheme:
    """CKKS for thirty additions on a grid of 2^-18, by trust and degree."""
    sums = SumRange(fraction_bits=18, bound=2.0, additions=30)
    return keyed_scheme(Ckks(sums, request.param))


@pytest.fixture(scope="session")
def small() -> KeyedScheme:
    """CKKS as chosen for a small model and ten clients."""
    return keyed_scheme(Ckks.for_sums(658, SumRange(20, 2.0, 10)))


@pytest.fixture(scope="session")
def small_shared() -> KeyedScheme:
    """The same under trust ``shared``."""
    return keyed_scheme(Ckks.for_sums(658, SumRange(20, 2.0, 10), "shared"))


@pytest.fixture(scope="session", params=["key_holder", "shared"])
def packed(request: pytest.FixtureRequest) -> KeyedScheme:
    """Packed as chosen for a model of thirty thousand values and ten clients."""
    return keyed_scheme(Packed.for_sums(30_000, SumRange(16, 1.0, 10), request.param))


@dataclass(frozen=True)
class Internals:
    """What is inside bodies and keys; nothing of it is ever released by qfl."""

    def ciphertexts(self, scheme: Any, body: bytes, length: int) -> NDArray[np.uint64]:
        """Of a sum; shape (ciphertexts, 2, degree)."""
        form = scheme._total(length)
        return np.stack(form.read(body, 0, form.rows), axis=1)

    def secret_points(self, scheme: Any, secret: bytes) -> NDArray[np.object_]:
        """The secret's values at the roots of the ring modulo the data prime."""
        degree = scheme.parameters.degree
        made = self.seal_secret(scheme, secret)  # its data lives as long as it does
        points = made.data()
        return np.array([points[i] for i in range(degree)], dtype=object)

    def seal_secret(self, scheme: Any, secret: bytes) -> Any:
        from qfl.crypto.rlwe_keys import _secret

        return _secret(secret, scheme.parameters)

    def raw(self, scheme: Ckks, body: bytes, length: int, secret: bytes) -> NDArray[np.float64]:
        """What SEAL decrypts and decodes before it is rounded to the grid, in real units."""
        import tenseal.sealapi as seal

        ring = seal_ring(scheme.parameters.ring)
        opener, encoder = decryptor(secret, scheme.parameters), seal.CKKSEncoder(ring.context)
        plain, ciphertext, found = seal.Plaintext(), seal.Ciphertext(), []
        with SealFile() as file:
            for both in self.ciphertexts(scheme, body, length):
                ring.ciphertext.load(ciphertext, ring.context, file, both)
                opener.decrypt(ciphertext, plain)
                found += encoder.decode_double(plain)
        return np.array(found)[:length] / scheme.parameters.scale


@pytest.fixture(scope="session")
def internals() -> Internals:
    return Internals()
