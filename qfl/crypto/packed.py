"""``packed``: exact sums, several integers in a coefficient of BFV (Fan and Vercauteren 2012).

Values are laid side by side in the coefficients of SEAL's plaintexts, without batching and
without approximation: what opens is the integer sum, or, with a probability under 2^-64, a wrong
one (:mod:`qfl.crypto.packed_parameters`). A coefficient of c0 + c1 s needs all of c1 but only its
own place of c0: of c0 just the coefficients that hold values travel.

Each contribution carries a one in a coefficient of its own. In a sum it counts the contributions;
under a foreign key it is anything, by which the sum is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qfl.crypto.encoding import IntVector, SumRange
from qfl.crypto.members import Roster
from qfl.crypto.packed_choice import choose_packed
from qfl.crypto.packed_parameters import PackedParameters
from qfl.crypto.rlwe_bits import Coefficients
from qfl.crypto.rlwe_cipher import decrypted
from qfl.crypto.rlwe_keys import decryptor
from qfl.crypto.rlwe_ring import seal_ring
from qfl.crypto.rlwe_scheme import SealScheme
from qfl.crypto.rlwe_wire import Form, Section
from qfl.crypto.seal_objects import SealFile
from qfl.errors import ConfigError, PayloadError


@dataclass(frozen=True)
class Packed(SealScheme):
    """Packed BFV for one run.

    Example:
        >>> sums = SumRange(fraction_bits=15, bound=1.0, additions=3)
        >>> scheme = Packed.for_sums(length=2, sums=sums)
        >>> keys = scheme.generate_keys()
        >>> total = scheme.accumulator(2, keys.public)
        >>> for vector in ([1, -2], [3, 5], [10, 10]):
        ...     total.add(scheme.protect(np.array(vector), keys.public))
        >>> scheme.open(total.result(), 2, keys.secret).tolist()
        [14, 13]
    """

    sums: SumRange
    parameters: PackedParameters
    name: str = "packed"
    has_keys: bool = True

    def __post_init__(self) -> None:
        additions = self.sums.additions
        if self.sums.capacity > self.parameters.capacity:
            raise ConfigError(
                f"lanes for sums of magnitude {self.parameters.capacity} do not hold sums of "
                f"{self.sums.capacity}"
            )
        if not self.parameters.is_sound(additions, 0):
            raise ConfigError(
                f"{self.parameters} open {additions} contributions wrong too often: noise may "
                f"reach {self.parameters.noise_bound(additions, 0):.0f}, and "
                f"{self.parameters.room():.0f} is borne"
            )

    @staticmethod
    def for_sums(length: int, sums: SumRange, trust: str = "key_holder") -> Packed:
        """Choose parameters for vectors of up to ``length`` values.

        Raises:
            ConfigError: No parameters are sound, or the trust is unknown.
        """
        return Packed(sums, choose_packed(length, sums, trust))

    def open(
        self,
        body: bytes,
        length: int,
        secret_key: bytes,
        *,
        place: str = "",
        roster: Roster | None = None,
    ) -> IntVector:
        """Decrypt a sum.

        Raises:
            PayloadError: The body is malformed, or no sum under this key.
        """
        made = decryptor(secret_key, self.parameters)
        ring, form = seal_ring(self.parameters.ring), self._total(length)
        form.check(body)
        degree, used = self.parameters.degree, self.parameters.coefficients(length)
        found = np.zeros((form.rows, degree), np.uint64)
        with SealFile() as file:
            for row, plain in enumerate(decrypted(body, made, ring, form)):
                saved = np.frombuffer(file.save(plain), "<u8", offset=ring.plain.inner)
                found[row, : saved.size] = saved
        return self._unlaned(found.ravel()[:used], length)

    def _plains(self, values: IntVector) -> Iterator[Any]:
        import tenseal.sealapi as seal

        ring, plain = seal_ring(self.parameters.ring), seal.Plaintext()
        with SealFile() as file:
            for row in self._laned(values):
                ring.plain.load(plain, ring.context, file, row)
                yield plain

    def _laned(self, values: IntVector) -> Coefficients:
        """Plaintexts, shape (ciphertexts, degree)."""
        parameters = self.parameters
        used = parameters.coefficients(values.size)
        lanes = np.zeros((parameters.lanes, used - 1), np.int64)
        lanes.ravel()[: values.size] = values
        rows = np.zeros((parameters.ciphertexts(values.size), parameters.degree), np.int64)
        joined = rows.ravel()[: used - 1]
        for lane in lanes[::-1]:
            joined *= parameters.base
            joined += lane
        joined[joined < 0] += parameters.plain_modulus
        rows.ravel()[used - 1] = 1
        return rows.view(np.uint64)

    def _unlaned(self, found: Coefficients, length: int) -> IntVector:
        parameters = self.parameters
        if not 1 <= found[-1] <= self.sums.additions:
            raise PayloadError(
                "the sum does not count its contributions: it is not a sum under this key"
            )
        # With the capacity added to every lane, digits are not negative.
        rest = found[:-1] + np.uint64(parameters.plain_modulus // 2)
        wrapped = np.uint64(parameters.plain_modulus)
        np.subtract(rest, wrapped, out=rest, where=rest >= wrapped)
        lanes = np.empty((parameters.lanes, rest.size), np.int64)
        for lane in lanes:
            above = rest // np.uint64(parameters.base)
            rest -= above * np.uint64(parameters.base)
            lane[:] = rest
            rest = above
        lanes -= parameters.capacity
        return lanes.ravel()[:length]

    def _contribution(self, length: int) -> Form:
        parameters = self.parameters
        if parameters.trust == "shared":
            return Form(length, (self._first(length, parameters.drop),), seeded=True)
        return self._both(length, parameters.drop, parameters.second_drop)

    def _total(self, length: int) -> Form:
        return self._both(length, self.parameters.total_drop, self.parameters.total_second_drop)

    def _both(self, length: int, drop: int, second_drop: int) -> Form:
        first = self._first(length, drop)
        return Form(length, (first, replace(first, last=first.degree, drop=second_drop)))

    def _first(self, length: int, drop: int) -> Section:
        rows, degree = self.parameters.ciphertexts(length), self.parameters.degree
        last = self.parameters.coefficients(length) - (rows - 1) * degree
        return Section(rows, degree, last, seal_ring(self.parameters.ring).prime, drop)
