"""What ``ckks`` and ``packed`` do alike: make keys, encrypt, add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.members import MemberKeys
from qfl.crypto.rlwe_cipher import encrypted
from qfl.crypto.rlwe_keys import check_public, encryptor, make_keys
from qfl.crypto.rlwe_ring import seal_ring
from qfl.crypto.rlwe_sum import CiphertextSum
from qfl.crypto.rlwe_wire import Form
from qfl.crypto.scheme import KeyPair, OpensWhole


class SealScheme(OpensWhole, ABC):
    """Sums of ciphertexts of SEAL's; a scheme says how values become plaintexts and come back."""

    sums: SumRange
    parameters: Any

    @abstractmethod
    def _contribution(self, length: int) -> Form:
        """How a contribution of so many values travels."""

    @abstractmethod
    def _total(self, length: int) -> Form:
        """How a sum of so many values travels."""

    @abstractmethod
    def _plains(self, values: IntVector) -> Iterator[Any]:
        """The plaintexts of a vector, one after the other."""

    def generate_keys(self) -> KeyPair:
        """Keys for one run; SEAL draws them from the operating system's randomness."""
        return make_keys(self.parameters)

    def protect(
        self,
        values: IntVector,
        key: bytes,
        *,
        place: str = "",
        signer: MemberKeys | None = None,
    ) -> bytes:
        """Encrypt grid integers.

        Raises:
            RangeError: A value exceeds the capacity; a sum past it would wrap silently.
            PayloadError: The key cannot be read or is not of these parameters.
        """
        check_capacity(values, self.sums)
        made = encryptor(key, self.parameters)
        ring, form = seal_ring(self.parameters.ring), self._contribution(values.size)
        return encrypted(self._plains(values), made, ring, form)

    def accumulator(self, length: int, public_key: bytes) -> CiphertextSum:
        """A sum of ciphertexts; needs the public part of the keys only.

        Raises:
            PayloadError: The public part is not of these parameters.
        """
        check_public(public_key, self.parameters)
        return CiphertextSum(
            seal_ring(self.parameters.ring),
            self._contribution(length),
            self._total(length),
            self.sums.additions,
        )
