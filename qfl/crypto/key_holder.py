"""The key holder: makes a run's keys, and opens sums, never single updates.

It opens one sum per run, round and step. Asked again for the same sum it answers the same;
asked for another sum of the same step it refuses. It trusts the server to add honestly, because a
sum of ciphertexts cannot be told from a single one: server and key holder must not collude.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from qfl.crypto.encoding import IntVector
from qfl.crypto.members import Roster
from qfl.crypto.payload import unpack
from qfl.crypto.scheme import KeyPair, Scheme
from qfl.errors import OpeningRefusedError


@dataclass(repr=False)
class KeyHolder:
    """Keys of one run and the record of what was opened.

    Attributes:
        run: The run that the keys belong to.
        scheme: Scheme and parameters.
        keys: Key pair; the secret part stays here.
        min_clients: Fewest contributions in a sum that is opened.
        opened: Digest of the sum opened for each round and step.
        roster: Who may contribute, where the scheme lets a key holder check it.
    """

    run: str
    scheme: Scheme
    keys: KeyPair
    min_clients: int
    opened: dict[str, str] = field(default_factory=dict)
    roster: Roster | None = None

    @staticmethod
    def create(run: str, scheme: Scheme, min_clients: int) -> KeyHolder:
        """Make new keys for a run."""
        return KeyHolder(run, scheme, scheme.generate_keys(), min_clients)

    def __repr__(self) -> str:
        return f"KeyHolder(run={self.run!r}, key_id={self.keys.key_id!r})"

    def open(self, payload: bytes) -> IntVector:
        """Open a sum.

        Args:
            payload: The packed sum (see :mod:`qfl.crypto.payload`).

        Returns:
            The integers of the sum.

        Raises:
            PayloadError: The payload is malformed.
            OpeningRefusedError: It belongs to another run, key or scheme, holds too few
                contributions, or another sum was opened for this round and step.
        """
        header, body = unpack(payload)
        for name, ours in (
            ("run", self.run),
            ("scheme", self.scheme.name),
            ("key_id", self.keys.key_id),
        ):
            if (theirs := getattr(header, name)) != ours:
                raise OpeningRefusedError(
                    f"asked to open a sum with {name}={theirs!r}; this key holder opens "
                    f"{name}={ours!r}"
                )
        if header.contributions < self.min_clients:
            raise OpeningRefusedError(
                f"asked to open a sum of {header.contributions} updates in round {header.round}; "
                f"at least {self.min_clients} are needed"
            )
        if header.contributions > self.scheme.sums.additions:
            raise OpeningRefusedError(
                f"asked to open a sum of {header.contributions} updates; the parameters of this "
                f"key are sound for at most {self.scheme.sums.additions}"
            )
        counted = self.scheme.contributions(body)
        if counted is not None and counted != header.contributions:
            raise OpeningRefusedError(
                f"asked to open a sum of {header.contributions} updates; it holds {counted}"
            )
        place = f"{header.round}/{header.step}"
        digest = hashlib.sha256(payload).hexdigest()
        if self.opened.get(place, digest) != digest:
            raise OpeningRefusedError(
                f"another sum was already opened for round {header.round}, step {header.step}: "
                "one sum is opened per round and step"
            )
        values = self.scheme.open(
            body, header.length, self.keys.secret, place=header.place, roster=self.roster
        )
        self.opened[place] = digest
        return values

    def opened_json(self) -> str:
        """The record of openings, for keeping between messages."""
        return json.dumps(self.opened, sort_keys=True)
