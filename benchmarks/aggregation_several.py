"""Schemes of ours in which several open together: a committee, and masks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from aggregation_round import OPENER, SERVER, Case, Floats, Outcome, Timer
from aggregation_sum import PLACE, Ours, Sum
from numpy.typing import NDArray

from qfl.crypto import Committee, CommitteeMember, HybridSum, MemberKeys, Roster, from_grid, to_grid
from qfl.crypto.masking_client import MaskingClient
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_server import MaskingServer

MEMBERS, THRESHOLD = 3, 2
LEAST = 3


class CommitteeSum(Sum):
    """``hybrid`` opened by two of three; what they do, one after the other, counts as opening."""

    _sum: HybridSum

    def _make_keys(self, ours: Ours) -> None:
        keys = [MemberKeys() for _ in range(MEMBERS)]
        committee = Committee(Roster(key.member for key in keys), THRESHOLD)
        self._key = self._public = committee.to_bytes()
        self._committee, self._openers = committee, keys[:THRESHOLD]

    def result(self) -> bytes:
        """Everything that the opening members get."""
        statement = self._sum.statement(PLACE)
        self._members = [
            CommitteeMember(key, self._committee, self._roster, LEAST) for key in self._openers
        ]
        signatures = {
            key.name: member.agree(statement)
            for key, member in zip(self._openers, self._members, strict=True)
        }
        self._requests = [
            self._sum.request_for(key.name, PLACE, signatures) for key in self._openers
        ]
        return b"".join([statement * THRESHOLD, *self._requests])

    def open(self, body: bytes) -> NDArray[Any]:
        """Members add shares; the server puts them together and unmasks."""
        shares = {
            key.name: member.share(request)
            for key, member, request in zip(
                self._openers, self._members, self._requests, strict=True
            )
        }
        return self._finish(self._sum.combine(shares))


class MaskedSum:
    """``masking``: five steps, in all of which every client takes part.

    All that a client does counts as protecting, all that it sends and gets as up and down; taking
    the masks off counts as opening.
    """

    def __init__(self, ours: Ours, case: Case) -> None:
        self._case, self._sums = case, ours.sums(case)
        self._rules = MaskingRules(self._sums, LEAST)
        self._keys = [MemberKeys() for _ in range(case.clients)]
        self._roster = Roster(key.member for key in self._keys)
        around = self._rules.neighbourhood(case.clients)
        self.settings = f"grid of 2^-{self._sums.fraction_bits} {around}"

    def round(self, run: Timer) -> Outcome:
        """One sum."""
        case, names = self._case, [key.name for key in self._keys]
        server = run(SERVER, partial(MaskingServer, self._roster, PLACE, case.length, self._rules))
        clients = [
            run(place, partial(MaskingClient, key, self._roster, PLACE, self._rules))
            for place, key in enumerate(self._keys)
        ]
        mean, up, down = np.zeros(case.length), 0, 0
        everyone = list(zip(range(case.clients), names, clients, strict=True))
        for place, name, client in everyone:
            sent = run(place, client.advertise)
            run(SERVER, partial(server.take_advertisement, name, sent))
            up += len(sent)
        for place, name, client in everyone:
            got = run(SERVER, server.advertisements)
            sent = run(place, partial(client.share, got))
            run(SERVER, partial(server.take_shares, name, sent))
            up, down = up + len(sent), down + len(got)
        for place, name, client in everyone:
            got = run(SERVER, partial(server.inbox_for, name))
            update = case.update(place)
            mean += update.astype(np.float64) / case.clients
            sent = run(place, partial(self._mask, client, update, got))
            run(SERVER, partial(server.take_masked, name, sent))
            up, down = up + len(sent), down + len(got)
        for place, name, client in everyone:
            got = run(SERVER, server.survivors)
            sent = run(place, partial(client.agree, got))
            run(SERVER, partial(server.take_agreement, name, sent))
            up, down = up + len(sent), down + len(got)
        for place, name, client in everyone:
            got = run(SERVER, partial(server.signatures_for, name))
            sent = run(place, partial(client.reveal, got))
            run(SERVER, partial(server.take_reveal, name, sent))
            up, down = up + len(sent), down + len(got)
        opened = run(OPENER, lambda: from_grid(server.result(), self._sums))
        return Outcome(mean, opened, up // case.clients, down // case.clients)

    def _mask(self, client: MaskingClient, update: Floats, inbox: bytes) -> bytes:
        return client.mask(to_grid(update, 1 / self._case.clients, self._sums), inbox)
