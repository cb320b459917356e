"""``plain``: no protection. The baseline that every comparison needs.

Values are float32 on the same grid as in every other scheme, which float32 holds exactly up to
2^24 steps, so that a run without encryption gives bit for bit the same model as one with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qfl.crypto.encoding import IntVector, SumRange, check_capacity
from qfl.crypto.members import MemberKeys, Roster
from qfl.crypto.scheme import KeyPair, OpensWhole, WholeSum
from qfl.errors import ConfigError, PayloadError, RangeError

EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True)
class Plain(OpensWhole):
    """Vectors in the clear, 4 bytes per parameter.

    Example:
        >>> scheme = Plain(SumRange(20, 2.0, 2))
        >>> total = scheme.accumulator(2, b"")
        >>> for vector in ([1, -2], [3, 5]):
        ...     total.add(scheme.protect(np.array(vector), b""))
        >>> scheme.open(total.result(), 2, b"").tolist()
        [4, 3]
    """

    sums: SumRange
    name: str = "plain"
    has_keys: bool = False

    def __post_init__(self) -> None:
        # A contribution stays within the bound; it is sums that hold a rounding by each.
        largest = int(self.sums.bound * 2**self.sums.fraction_bits)
        if largest > EXACT_IN_FLOAT32:
            raise ConfigError(
                f"bound={self.sums.bound:g} with {self.sums.fraction_bits} grid bits needs "
                f"{largest} steps; float32 holds {EXACT_IN_FLOAT32} exactly: lower "
                "strategy.bound or strategy.grid_bits"
            )

    def generate_keys(self) -> KeyPair:
        """There are none."""
        return KeyPair(b"", b"", "")

    def protect(
        self,
        values: IntVector,
        key: bytes,
        *,
        place: str = "",
        signer: MemberKeys | None = None,
    ) -> bytes:
        """Float32, little endian.

        Raises:
            RangeError: A value exceeds the capacity.
        """
        check_capacity(values, self.sums)
        return (values * self.sums.step).astype("<f4").tobytes()

    def accumulator(self, length: int, public_key: bytes) -> _PlainSum:
        """A sum in int64."""
        return _PlainSum(self.sums, length)

    def open(
        self,
        body: bytes,
        length: int,
        secret_key: bytes,
        *,
        place: str = "",
        roster: Roster | None = None,
    ) -> IntVector:
        """The integers themselves."""
        if len(body) != 8 * length:
            raise PayloadError(f"a sum of {length} values has {8 * length} bytes, not {len(body)}")
        return np.frombuffer(body, dtype="<i8").astype(np.int64)


class _PlainSum(WholeSum):
    def __init__(self, sums: SumRange, length: int) -> None:
        self._sums = sums
        self._total = np.zeros(length, dtype=np.int64)

    def add(self, body: bytes) -> None:
        if len(body) != 4 * self._total.size:
            raise PayloadError(
                f"{self._total.size} plain values have {4 * self._total.size} bytes, "
                f"not {len(body)}"
            )
        steps = np.frombuffer(body, dtype="<f4").astype(np.float64) / self._sums.step
        if not (np.isfinite(steps).all() and (np.abs(steps) <= self._sums.capacity).all()):
            raise RangeError("a plain contribution holds values out of range")
        if (steps != np.rint(steps)).any():
            raise PayloadError("a plain contribution holds values off the grid")
        self._total += steps.astype(np.int64)

    def result(self) -> bytes:
        return self._total.astype("<i8").tobytes()
