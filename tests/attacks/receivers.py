"""Whoever receives bytes under schemes with one step: server, key holder, committee, client.

A receiver takes bytes. It raises a refusal of ours, or it says what it did with them after making
sure that nobody else is harmed: the sum goes on, and what it opens to is in range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from mutations import mutated, repacked

from qfl.crypto import (
    Committee,
    CommitteeMember,
    Header,
    IntVector,
    KeyHolder,
    KeyPair,
    MemberKeys,
    Roster,
    SumRange,
    expect,
    make_scheme,
    pack,
    unpack,
)
from qfl.crypto.hybrid_keys import identity_of
from qfl.errors import CryptoError

LENGTH = 500
SUMS = SumRange(fraction_bits=16, bound=2.0, additions=5)
_MOST = SUMS.capacity // 4
HONEST = np.random.default_rng(1).integers(-_MOST, _MOST, (3, LENGTH), endpoint=True)
OWN = np.random.default_rng(2).integers(-_MOST, _MOST, LENGTH, endpoint=True)
RUN, ROUND = "run-1", 3
MEMBERS = [MemberKeys() for _ in range(len(HONEST) + 1)]
ROSTER = Roster(keys.member for keys in MEMBERS)
TRUSTS = {
    "plain": ("none",),
    "ckks": ("key_holder", "shared"),
    "packed": ("key_holder", "shared"),
    "hybrid": ("key_holder", "shared", "committee"),
}


@dataclass(frozen=True)
class Receiver:
    """Somebody who is sent bytes.

    Attributes:
        name: Who, and what is sent.
        samples: Two good messages; the first is taken.
        take: Takes a message; says what became of it, or refuses it by an error of ours.
        change: Makes a message malformed.
        others: Errors that are ours here, beside :class:`CryptoError`.
    """

    name: str
    samples: tuple[bytes, bytes]
    take: Callable[[bytes], str]
    change: Callable[[bytes, bytes, Random], bytes] = mutated
    others: tuple[type[Exception], ...] = ()


def enveloped(data: bytes, other: bytes, random: Random) -> bytes:
    """A payload damaged on its way, or made wrong by whoever packed it."""
    return random.choice((mutated, repacked, repacked))(data, other, random)


def in_range(values: IntVector, length: int = LENGTH) -> bool:
    """Whether a sum is a vector that the next step can use."""
    right = values.shape == (length,) and values.dtype == np.int64
    # Python's integers: numpy's abs of the smallest int64 is negative.
    ends = int(values.max(initial=0)), -int(values.min(initial=0))
    return right and max(ends) <= 2 * SUMS.capacity


class OneRun:
    """A run of one scheme, set up honestly; the last member is the one who sends nonsense."""

    def __init__(self, scheme: str, trust: str) -> None:
        self.label, self.trust = f"{scheme}/{trust}", trust
        self.scheme: Any = make_scheme(scheme, LENGTH, SUMS, trust)
        self.committee = Committee(Roster(keys.member for keys in MEMBERS[:3]), 2)
        public = self.committee.to_bytes()
        self.keys = KeyPair(public, b"", identity_of(public).hex()[:16])
        if trust != "committee":
            self.keys = self.scheme.generate_keys()
        self.key = self.keys.secret if trust == "shared" else self.keys.public
        self.header = Header(scheme, self.keys.key_id, RUN, ROUND, "train", LENGTH)
        self.roster = ROSTER if scheme == "hybrid" else None
        rows = zip(HONEST, MEMBERS, strict=False)
        self.honest = [self.protected(values, keys) for values, keys in rows]

    def protected(self, values: IntVector, signer: MemberKeys = MEMBERS[-1]) -> bytes:
        made: bytes = self.scheme.protect(
            values, self.key, place=self.header.place, signer=signer if self.roster else None
        )
        return made

    def total(self, bodies: list[bytes]) -> Any:
        found = self.scheme.accumulator(LENGTH, self.keys.public)
        for body in bodies:
            found.add(body)
        return found

    def opened(self, total: Any, contributions: int) -> IntVector:
        place = self.header.place
        if self.trust == "committee":
            found = self.opened_together(total)
        elif self.trust == "none":
            found = self.scheme.open(total.result(), LENGTH, b"")
        else:
            header = replace(self.header, contributions=contributions)
            found = self.holder().open(pack(header, total.result()))
        values: IntVector = self.scheme.finish(found, total.masked(), LENGTH, place=place)
        return values

    def opened_together(self, total: Any) -> IntVector:
        place = self.header.place
        members = {keys.name: self.member(keys) for keys in MEMBERS[1:3]}
        statement = total.statement(place)
        signed = {name: member.agree(statement) for name, member in members.items()}
        shares = {
            name: member.share(total.request_for(name, place, signed))
            for name, member in members.items()
        }
        found: IntVector = total.combine(shares)
        return found

    def holder(self) -> KeyHolder:
        return KeyHolder(RUN, self.scheme, self.keys, len(HONEST), roster=self.roster)

    def member(self, keys: MemberKeys = MEMBERS[1]) -> CommitteeMember:
        return CommitteeMember(keys, self.committee, ROSTER, len(HONEST))

    def receivers(self) -> Iterator[Receiver]:
        bodies = self.protected(OWN), self.protected(-OWN)
        own, other = (pack(self.header, body) for body in bodies)
        yield self._of("server, contribution", (own, other), self.contribution, enveloped)
        if self.trust == "committee":
            yield from self.committee_receivers()
        elif self.trust == "none":
            sums = [self.total([*self.honest, body]).result() for body in bodies]
            yield self._of("server, sum", (sums[0], sums[1]), self.sum_alone)
        else:
            yield from self.holder_receivers(bodies)
        if self.scheme.name == "hybrid":
            yield from self.masked_receivers(bodies)

    def contribution(self, payload: bytes) -> str:
        """As the server takes it: the others' contributions go in before and after."""
        header, body = unpack(payload)
        expect(header, self.header)
        total = self.total(self.honest[:1])
        before = total.result() + total.masked()
        try:
            total.add(body)
        except CryptoError:
            assert total.result() + total.masked() == before, "a refused contribution changed a sum"
            raise
        for later in self.honest[1:]:
            total.add(later)
        try:
            values = self.opened(total, len(HONEST) + 1)
        except CryptoError:
            return "taken, not opened"
        assert in_range(values - HONEST.sum(axis=0)), f"out of range: {values}"
        return "taken, opened"

    def sum_alone(self, body: bytes) -> str:
        values = self.scheme.open(body, LENGTH, b"")
        assert values.shape == (LENGTH,) and values.dtype == np.int64
        return "opened"

    def holder_receivers(self, bodies: tuple[bytes, bytes]) -> Iterator[Receiver]:
        header = replace(self.header, contributions=len(HONEST) + 1)
        sums = [pack(header, self.total([*self.honest, body]).result()) for body in bodies]
        yield self._of("key holder, sum", (sums[0], sums[1]), self.asked, enveloped)
        spare = self.scheme.generate_keys()
        secrets = self.keys.secret, spare.secret
        yield self._of("key holder, kept key", secrets, self.kept_key)
        yield self._of("client, key", (self.key, self._key_of(spare)), self.told_key)

    def _key_of(self, keys: KeyPair) -> bytes:
        return keys.secret if self.trust == "shared" else keys.public

    def asked(self, payload: bytes) -> str:
        values = self.holder().open(payload)
        if self.scheme.name == "hybrid":
            assert values.shape == (2048,) and np.abs(values).max() < 2**15
        else:
            assert in_range(values, unpack(payload)[0].length)
        return "opened"

    def kept_key(self, secret: bytes) -> str:
        result = self.total(self.honest).result()
        self.scheme.open(result, LENGTH, secret, place=self.header.place)
        return "opened"

    def told_key(self, key: bytes) -> str:
        self.scheme.protect(OWN, key, place=self.header.place, signer=None)
        if self.trust != "shared":
            self.scheme.accumulator(LENGTH, key)
        return "protected"

    def masked_receivers(self, bodies: tuple[bytes, bytes]) -> Iterator[Receiver]:
        totals = [self.total([*self.honest, body]) for body in bodies]
        place = self.header.place
        if self.trust == "committee":
            opened = self.opened_together(totals[0])
        else:
            opened = self.scheme.open(totals[0].result(), LENGTH, self.keys.secret, place=place)

        def finish(masked: bytes) -> str:
            assert in_range(self.scheme.finish(opened, masked, LENGTH, place=place))
            return "finished"

        masked = totals[0].masked(), totals[1].masked()
        yield self._of("keeper, masked sum", masked, finish)

    def committee_receivers(self) -> Iterator[Receiver]:
        place, (own, other) = self.header.place, (self.protected(OWN), self.protected(-OWN))
        totals = [self.total([*self.honest, body]) for body in (own, other)]
        statements = [total.statement(place) for total in totals]
        signers = [MEMBERS[1], MEMBERS[2]]
        name = signers[0].name
        requests, shares = [], []
        for total, statement in zip(totals, statements, strict=True):
            signed = {keys.name: self.member(keys).agree(statement) for keys in signers}
            requests.append(total.request_for(name, place, signed))
            last = total.request_for(signers[1].name, place, signed)
            shares.append((self.member().share(requests[-1]), self.member(signers[1]).share(last)))
        honest_share = shares[0][1]

        def agree(statement: bytes) -> str:
            self.member().agree(statement)
            return "signed"

        def share(request: bytes) -> str:
            assert len(self.member().share(request)) == len(honest_share)
            return "shared"

        def combine(share: bytes) -> str:
            found = totals[0].combine({name: share, signers[1].name: honest_share})
            values = self.scheme.finish(found, totals[0].masked(), LENGTH, place=place)
            assert in_range(values)
            return "combined"

        spare = Committee(Roster(keys.member for keys in MEMBERS), 3).to_bytes()
        yield self._of("member, statement", (statements[0], statements[1]), agree)
        yield self._of("member, request", (requests[0], requests[1]), share)
        yield self._of("server, share", (shares[0][0], shares[1][0]), combine)
        yield self._of("client, committee", (self.keys.public, spare), self.told_key)

    def _of(
        self,
        name: str,
        samples: tuple[bytes, bytes],
        take: Callable[[bytes], str],
        change: Callable[[bytes, bytes, Random], bytes] = mutated,
    ) -> Receiver:
        return Receiver(f"{self.label}: {name}", samples, take, change)


def receivers_of(scheme: str) -> list[Receiver]:
    """Everybody who receives something under a scheme, whatever the trust."""
    return [one for trust in TRUSTS[scheme] for one in OneRun(scheme, trust).receivers()]
