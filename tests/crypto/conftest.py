"""Keys and parameters that several tests of the ``ckks`` scheme share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from qfl.crypto import Ckks, CkksParameters, KeyPair, SumRange
from qfl.crypto.ckks_wire import wire_of


@dataclass(frozen=True)
class KeyedScheme:
    scheme: Ckks
    keys: KeyPair

    @property
    def slots(self) -> int:
        return self.scheme.parameters.slots

    def sum_of(self, vectors: list[NDArray[np.int64]]) -> bytes:
        total = self.scheme.accumulator(vectors[0].size, self.keys.public)
        for vector in vectors:
            total.add(self.scheme.protect(vector, self.keys.public))
        return total.result()


@pytest.fixture(scope="session", params=[2048, 4096])
def keyed(request: pytest.FixtureRequest) -> KeyedScheme:
    """A scheme for thirty additions on a grid of 2^-18, at each degree."""
    parameters = {
        2048: CkksParameters(2048, 40, 14, 37),
        4096: CkksParameters(4096, 41, 20, 38),
    }[request.param]
    scheme = Ckks(SumRange(fraction_bits=18, bound=2.0, additions=30), parameters)
    return KeyedScheme(scheme, scheme.generate_keys())


@pytest.fixture(scope="session")
def small() -> KeyedScheme:
    """Parameters as chosen for a small model and ten clients."""
    scheme = Ckks.for_sums(658, SumRange(fraction_bits=20, bound=2.0, additions=10))
    return KeyedScheme(scheme, scheme.generate_keys())


RawDecryption = Callable[[Ckks, bytes, int, bytes], NDArray[np.float64]]


@pytest.fixture(scope="session")
def raw_decryption() -> RawDecryption:
    """What TenSEAL decrypts before it is rounded to the grid; never released by qfl."""
    import tenseal

    def decrypt(scheme: Ckks, body: bytes, length: int, secret: bytes) -> NDArray[np.float64]:
        context = tenseal.context_from(secret, n_threads=1)
        wire, slots = wire_of(scheme.parameters), scheme.parameters.slots
        parts = [
            tenseal.ckks_vector_from(context, wire.vector(part, slots)).decrypt()
            for part in wire.unpack(body, length)
        ]
        return np.concatenate(parts)[:length]

    return decrypt
