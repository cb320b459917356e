"""``ckks``: sums under homomorphic encryption (Cheon, Kim, Kim, Song 2017), by TenSEAL's SEAL.

**Release rule.** Raw CKKS decryptions give the whole secret key away (Li and Micciancio 2021),
and so do their float32 roundings. Clients therefore send multiples of an absolute grid, and
:meth:`Ckks.open` releases integers: the decrypted sum rounded to that grid, padding dropped. As
long as noise stays below half a step the release is a function of the inputs alone and says
nothing about the key.

Under trust ``shared`` every client encrypts with the secret key. The second polynomial of a
ciphertext is then random, and a seed of 64 bytes travels in its place: less than half the upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from qfl.crypto.ckks_parameters import CkksParameters, choose_parameters
from qfl.crypto.encoding import IntVector, SumRange
from qfl.crypto.members import Roster
from qfl.crypto.rlwe_cipher import decrypted
from qfl.crypto.rlwe_keys import decryptor
from qfl.crypto.rlwe_ring import seal_ring
from qfl.crypto.rlwe_scheme import SealScheme
from qfl.crypto.rlwe_wire import Form, Section
from qfl.errors import PayloadError


@dataclass(frozen=True)
class Ckks(SealScheme):
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
    def for_sums(length: int, sums: SumRange, trust: str = "key_holder") -> Ckks:
        """Choose parameters for vectors of up to ``length`` values.

        Raises:
            ConfigError: No parameters are sound, or the trust is unknown.
        """
        return Ckks(sums, choose_parameters(length, sums, trust))

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
        import tenseal.sealapi as seal

        made = decryptor(secret_key, self.parameters)
        ring, form = seal_ring(self.parameters.ring), self._total(length)
        form.check(body)
        encoder, slots = seal.CKKSEncoder(ring.context), self.parameters.slots
        found = np.empty(form.rows * slots)
        for row, plain in enumerate(decrypted(body, made, ring, form)):
            found[row * slots : (row + 1) * slots] = encoder.decode_double(plain)
        steps = np.rint(found[:length] / (self.parameters.scale * self.sums.step))
        if not (np.isfinite(steps).all() and (np.abs(steps) <= 2 * self.sums.capacity).all()):
            raise PayloadError("the sum decrypts to values out of range: it is not a sum of ours")
        return steps.astype(np.int64)

    def _plains(self, values: IntVector) -> Iterator[Any]:
        import tenseal.sealapi as seal

        encoder = seal.CKKSEncoder(seal_ring(self.parameters.ring).context)
        plain, slots = seal.Plaintext(), self.parameters.slots
        scale = float(self.parameters.scale)
        for start in range(0, max(values.size, 1), slots):
            chunk = values[start : start + slots] * self.sums.step
            encoder.encode(chunk.tolist() or [0.0], scale, plain)
            yield plain

    def _contribution(self, length: int) -> Form:
        if self.parameters.trust == "shared":
            return Form(length, (self._section(length),), seeded=True)
        return self._total(length)

    def _total(self, length: int) -> Form:
        return Form(length, (self._section(length),) * 2)

    def _section(self, length: int) -> Section:
        degree, prime = self.parameters.degree, seal_ring(self.parameters.ring).prime
        return Section(max(1, -(-length // self.parameters.slots)), degree, degree, prime)
