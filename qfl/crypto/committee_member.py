"""One member of a committee: signs one statement for each place, and adds the shares it was dealt.

What the threshold is good for: fewer than ``threshold`` members who put together all they have
learn nothing of a key, and two different statements for one place cannot both get ``threshold``
signatures as long as fewer than ``2 * threshold - members`` members sign twice.
"""

from __future__ import annotations

import hashlib
import hmac
import json

import numpy as np

from qfl.crypto.agreement import Request, Statement
from qfl.crypto.committee import Committee, share_of
from qfl.crypto.hybrid_keys import info_of
from qfl.crypto.hybrid_parameters import FEWEST_CONTRIBUTIONS
from qfl.crypto.members import MemberKeys, Roster, check_signatures
from qfl.crypto.ring import DEGREE
from qfl.crypto.shamir import PRIME
from qfl.errors import ConfigError, OpeningRefusedError, PayloadError


class CommitteeMember:
    """Bytes in, bytes out; :attr:`signed` is all that it has to remember between messages.

    Args:
        keys: Its own keys of the run.
        committee: Who else.
        roster: Who may contribute.
        min_clients: Fewest contributions in a sum that is opened; at least 3.
        signed: Digest of the statement that it stands by, for each place.

    Raises:
        ConfigError: Fewer contributions are asked for than hide a key.
        PayloadError: It is not on the committee.
    """

    def __init__(
        self,
        keys: MemberKeys,
        committee: Committee,
        roster: Roster,
        min_clients: int,
        signed: dict[str, str] | None = None,
    ) -> None:
        if min_clients < FEWEST_CONTRIBUTIONS:
            raise ConfigError(
                f"min_clients={min_clients} is not allowed with scheme hybrid: must be >= "
                f"{FEWEST_CONTRIBUTIONS}, the released sum of keys must hide each of them"
            )
        self._keys, self._committee, self._roster = keys, committee, roster
        self._fewest = min_clients
        self._own = committee.place_of(keys.name)
        self.signed = dict(signed or {})

    def __repr__(self) -> str:
        return f"CommitteeMember(name={self._keys.name!r})"

    def signed_json(self) -> str:
        """The record of what it stands by, for keeping between messages."""
        return json.dumps(self.signed, sort_keys=True)

    def agree(self, statement: bytes) -> bytes:
        """Sign a statement; the same one again gives the same signature.

        Returns:
            64 bytes.

        Raises:
            PayloadError: It is malformed, or names strangers.
            OpeningRefusedError: It is another committee's, names too few contributors, or this
                member stands by another one for the same place.
        """
        found = self._accept(Statement.from_bytes(statement))
        return self._keys.sign(found.signed_text)

    def share(self, request: bytes) -> bytes:
        """Add the shares that a statement names.

        Returns:
            The sum as a share of the summed key, 4,096 bytes.

        Raises:
            PayloadError: It is malformed, too few members signed, or a contribution is not what
                the statement says, not signed by its contributor, or cannot be opened.
            OpeningRefusedError: As for :meth:`agree`.
        """
        found = Request.from_bytes(request, len(self._committee.names))
        statement = found.statement
        self._check(statement)
        check_signatures(
            statement.signed_text,
            found.signatures,
            self._committee.roster,
            self._committee.threshold,
        )
        total = np.zeros(DEGREE // 2, dtype=np.int64)
        for (name, digest), (voucher, sealed) in zip(statement.entries, found.pieces, strict=True):
            if not hmac.compare_digest(voucher.digest, digest):
                raise PayloadError(f"the contribution of {name} is not the one agreed on")
            voucher.check(self._roster, statement.committee, statement.place)
            if not hmac.compare_digest(hashlib.sha256(sealed).digest(), voucher.parts[self._own]):
                raise PayloadError(f"the share from {name} is not the one that it vouched for")
            info = info_of(statement.committee, name, statement.place)
            total = (total + share_of(self._keys.open(sealed, info))) % PRIME
        self._accept(statement)
        return total.astype("<u4").tobytes()

    def _accept(self, statement: Statement) -> Statement:
        self.signed[statement.place] = self._check(statement)
        return statement

    def _check(self, statement: Statement) -> str:
        place, count = statement.place, len(statement.entries)
        if not hmac.compare_digest(statement.committee, self._committee.identity):
            raise OpeningRefusedError(
                f"asked to open {place} for committee {statement.committee.hex()[:16]}; this "
                f"member belongs to {self._committee.identity.hex()[:16]}"
            )
        if count < self._fewest:
            raise OpeningRefusedError(
                f"asked to open a sum of {count} updates at {place}; at least {self._fewest} are "
                "needed"
            )
        for name, _ in statement.entries:
            self._roster.member(name)
        digest = hashlib.sha256(statement.to_bytes()).hexdigest()
        if self.signed.get(place, digest) != digest:
            raise OpeningRefusedError(
                f"this member already stands by another set of contributions for {place}: one sum "
                "is opened for each place"
            )
        return digest
