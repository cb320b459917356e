"""The interface of every aggregation scheme.

A scheme turns a client's integer vector into bytes (``protect``), adds such bytes one by one as
they arrive (``accumulator``), and turns the sum back into integers (``open``). Schemes know
nothing of models, rounds or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qfl.crypto.encoding import IntVector, SumRange


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
        """The protected sum so far."""


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

    def protect(self, values: IntVector, public_key: bytes) -> bytes:
        """Protect one vector of grid integers."""

    def accumulator(self, length: int, public_key: bytes) -> Accumulator:
        """A sum of vectors of this length."""

    def open(self, body: bytes, length: int, secret_key: bytes) -> IntVector:
        """The integers of a protected sum, exactly."""
