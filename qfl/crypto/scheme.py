"""The interface of every aggregation scheme.

A scheme turns a client's integer vector into bytes (``protect``), adds such bytes one by one as
they arrive (``accumulator``), and turns the sum back into integers: whoever holds the key opens
what the accumulator gives out (``open``), and where that is less than the sum itself, the rest of
the way is made by whoever holds the accumulator (``finish``). Schemes know nothing of models,
rounds or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qfl.crypto.encoding import IntVector, SumRange
from qfl.crypto.members import MemberKeys, Roster


@dataclass(frozen=True, repr=False)
class KeyPair:
    """Keys of one run. The secret part never appears in a repr.

    Attributes:
        public: What clients encrypt with and the server adds with.
        secret: What opens sums.
        key_id: Short digest of the public part.
    """

    public: bytes
    secret: bytes
    key_id: str

    def __repr__(self) -> str:
        return f"KeyPair(key_id={self.key_id!r})"


class Accumulator(Protocol):
    """A sum that grows by one contribution at a time and holds only the sum."""

    def add(self, body: bytes) -> None:
        """Add one protected vector.

        Raises:
            PayloadError: The bytes are malformed or belong to other parameters.
        """

    def result(self) -> bytes:
        """What the holder of the key opens."""

    def masked(self) -> bytes:
        """What is needed beside the opened part to get the sum; empty where that is the sum."""


class WholeSum:
    """For accumulators whose result holds everything."""

    def masked(self) -> bytes:
        """Nothing."""
        return b""


class OpensWhole:
    """For schemes in which what is opened is the sum."""

    def contributions(self, body: bytes) -> int | None:
        """Unknown: a sum of ciphertexts looks like a single one."""
        return None

    def finish(
        self, opened: IntVector, masked: bytes, length: int, *, place: str = ""
    ) -> IntVector:
        """The sum, as opened."""
        return opened


class Scheme(Protocol):
    """An aggregation scheme; one object per run."""

    @property
    def name(self) -> str:
        """Name in the configuration and in every payload."""

    @property
    def sums(self) -> SumRange:
        """Grid, bound and most contributions of a sum."""

    @property
    def has_keys(self) -> bool:
        """Whether somebody must hold a secret key to open a sum."""

    def generate_keys(self) -> KeyPair:
        """New keys from the operating system's randomness; never from a seed."""

    def protect(
        self,
        values: IntVector,
        key: bytes,
        *,
        place: str = "",
        signer: MemberKeys | None = None,
    ) -> bytes:
        """Protect one vector of grid integers.

        Args:
            values: Multiples of the grid's step.
            key: The public key; under trust ``shared`` the secret one.
            place: Run, round, step and attempt, where protection depends on them.
            signer: Who vouches for the contribution, where openers check them one by one.
        """

    def accumulator(self, length: int, public_key: bytes) -> Accumulator:
        """A sum of vectors of this length."""

    def open(
        self,
        body: bytes,
        length: int,
        secret_key: bytes,
        *,
        place: str = "",
        roster: Roster | None = None,
    ) -> IntVector:
        """Open what an accumulator gave out, exactly.

        Args:
            body: From :meth:`Accumulator.result`.
            length: Values in the summed vectors.
            secret_key: What opens.
            place: As in :meth:`protect`.
            roster: Who may have contributed, where contributions are checked one by one.
        """

    def contributions(self, body: bytes) -> int | None:
        """How many contributions an opener finds in it; None where that cannot be told."""

    def finish(
        self, opened: IntVector, masked: bytes, length: int, *, place: str = ""
    ) -> IntVector:
        """The integers of the sum, from what was opened and :meth:`Accumulator.masked`."""
