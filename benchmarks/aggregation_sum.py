"""A scheme of ours with one step, driven as a round drives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aggregation_round import LARGEST, Case, Floats
from numpy.typing import NDArray

from qfl.crypto import (
    Header,
    MemberKeys,
    Roster,
    Scheme,
    SumRange,
    from_grid,
    make_scheme,
    pack,
    to_grid,
    unpack,
)
from qfl.errors import ConfigError

PLACE = "benchmark/1/train/0"
BOUND = 0.125  # the power of two above what is summed
assert BOUND > LARGEST


@dataclass(frozen=True)
class Ours:
    """A scheme as it is measured.

    Attributes:
        scheme: Its name.
        trust: Who opens.
        grid_bits: Updates are rounded to multiples of 2**-grid_bits, or where so many clients
            leave no room for that, to the finest grid that is sound.
        label: Told apart by this where one scheme is measured twice.
    """

    scheme: str
    trust: str
    grid_bits: int
    label: str = ""

    def __str__(self) -> str:
        name = f"{self.scheme} {self.label}".strip()
        return f"{name}, {self.trust}" if self.trust != "none" else name

    def sums(self, case: Case) -> SumRange:
        """Grid and capacity of a case's sums."""
        return self._range(self.grid_bits, case) if self.several else self.made(case).sums

    def made(self, case: Case) -> Scheme:
        """The scheme for a case.

        Raises:
            ConfigError: No grid is sound.
        """
        for bits in range(self.grid_bits, 0, -1):
            try:
                return make_scheme(self.scheme, case.length, self._range(bits, case), self.trust)
            except ConfigError as error:
                refused = error
        raise refused

    @property
    def several(self) -> bool:
        """Whether a sum takes several steps, and is no :class:`qfl.crypto.Scheme`."""
        return self.scheme == "masking"

    def _range(self, bits: int, case: Case) -> SumRange:
        return SumRange(bits, BOUND, case.clients)


class Sum:
    """Keys of one run, a member for every client, and the sum of the round."""

    def __init__(self, ours: Ours, case: Case) -> None:
        self._scheme, self._sums = ours.made(case), ours.sums(case)
        self._weight, self._length = 1 / case.clients, case.length
        self._signers = [MemberKeys() for _ in range(case.clients)]
        self._roster = Roster(signer.member for signer in self._signers)
        self._key = self._public = self._secret = b""
        self._make_keys(ours)
        parameters = getattr(self._scheme, "parameters", "")
        self.settings = f"grid of 2^-{self._sums.fraction_bits} {parameters}".strip()
        header = Header(ours.scheme, "", "benchmark", 1, "train", case.length)
        self._packed = partial(pack, header)
        self._sent = 0

    def _make_keys(self, ours: Ours) -> None:
        keys = self._scheme.generate_keys()
        self._public, self._secret = keys.public, keys.secret
        self._key = keys.secret if ours.trust == "shared" else keys.public

    def protect(self, client: int, update: Floats) -> bytes:
        """Weigh, round to the grid, protect."""
        steps = to_grid(update, self._weight, self._sums)
        signer = self._signers[client]
        body = self._scheme.protect(steps, self._key, place=PLACE, signer=signer)
        self._sent = len(body)
        return body

    def start(self) -> None:
        """A new sum."""
        self._sum: Any = self._scheme.accumulator(self._length, self._public)

    def add(self, body: bytes) -> None:
        """Add to the sum."""
        self._sum.add(body)

    def result(self) -> bytes:
        """What is opened."""
        return bytes(self._sum.result())

    def open(self, body: bytes) -> NDArray[Any]:
        """Open, and unmask what is left at the accumulator."""
        opened = self._scheme.open(
            body, self._length, self._secret, place=PLACE, roster=self._roster
        )
        return self._finish(opened)

    def _finish(self, opened: NDArray[Any]) -> NDArray[Any]:
        masked = self._sum.masked()
        del self._sum
        return from_grid(self._scheme.finish(opened, masked, self._length, place=PLACE), self._sums)

    @property
    def more(self) -> dict[str, Callable[[], float]]:
        """The digest around a contribution, made by a client and checked by the server."""

        def envelope() -> float:
            body = bytes(self._sent)
            started = time.process_time()
            unpack(self._packed(body))
            return (time.process_time() - started) * 1e3

        return {"envelope_ms": envelope}
