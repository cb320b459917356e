"""The server's side of a sum under masks.

It passes messages on, adds masked vectors as they come, and takes the masks off the sum. Whatever
it holds before the last step says nothing about any vector; see :mod:`qfl.crypto.masking_client`.
"""

from __future__ import annotations

import numpy as np

from qfl.crypto.encoding import IntVector
from qfl.crypto.keystream import Words, change_masks
from qfl.crypto.masking_circle import Circle, gather
from qfl.crypto.masking_opening import masks_left
from qfl.crypto.masking_package import Package, check_package, package_bytes
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_statements import Advertisement, Members, pack_members
from qfl.crypto.masking_wire import (
    SHARE_BYTES,
    contents,
    frame,
    pack_advertisements,
    pack_signatures,
    pieces,
    unpack_advertisement,
)
from qfl.crypto.members import SIGNATURE_BYTES, Roster
from qfl.crypto.sealing import seal
from qfl.errors import OpeningRefusedError, PayloadError

_STEPS = ("advertise", "share", "mask", "agree", "reveal", "")


class MaskingServer:
    """One sum.

    For each step: ``take_...`` with what a client sent, and then what goes to the clients next.
    Whoever has not been taken by then is out; those that a step waits for are in
    :attr:`waiting_for`.

    Args:
        roster: Members of the run.
        place: Run, round, label and attempt as one text; never used for two sums.
        length: Values in each vector.
        rules: As the clients have them.

    Attributes:
        wrong: Who gave a wrong share of whose secret, by name, as far as it was in the way; once
            the sum is open. Either may be to blame: the one who gave it, or the one who dealt it.

    Example:
        >>> from qfl.crypto.encoding import SumRange
        >>> from qfl.crypto.masking_client import MaskingClient
        >>> from qfl.crypto.members import MemberKeys
        >>> keys = [MemberKeys() for _ in range(3)]
        >>> roster = Roster(key.member for key in keys)
        >>> rules = MaskingRules(SumRange(fraction_bits=20, bound=2.0, additions=3), min_clients=3)
        >>> server = MaskingServer(roster, "run/1/train/0", 2, rules)
        >>> clients = {k.name: MaskingClient(k, roster, "run/1/train/0", rules) for k in keys}
        >>> for name, client in clients.items():
        ...     server.take_advertisement(name, client.advertise())
        >>> for name, client in clients.items():
        ...     server.take_shares(name, client.share(server.advertisements()))
        >>> for name, client in clients.items():
        ...     masked = client.mask(np.array([1, -2]), server.inbox_for(name))
        ...     server.take_masked(name, masked)
        >>> for name, client in clients.items():
        ...     server.take_agreement(name, client.agree(server.survivors()))
        >>> for name, client in clients.items():
        ...     server.take_reveal(name, client.reveal(server.signatures_for(name)))
        >>> server.result().tolist()
        [3, -6]
    """

    def __init__(self, roster: Roster, place: str, length: int, rules: MaskingRules) -> None:
        self._roster, self._place, self._length, self._rules = roster, place, length, rules
        self._step = _STEPS[0]
        self._circle: Circle | None = None
        self._to_all = b""  # what everybody is told at this step
        self._view = self._agreement = b""  # what clients sign at the steps 'mask' and 'agree'
        self._advertised: dict[str, Advertisement] = {}
        self._shared: set[int] = set()
        self._views: dict[int, bytes] = {}
        self._agreed: dict[int, bytes] = {}
        self._revealed: set[int] = set()
        self._packages: dict[int, dict[int, bytes]] = {}  # by receiver, then by sender
        self._edges: dict[int, dict[int, bytes]] = {}
        self._given: dict[int, dict[int, bytes]] = {}  # by whose secret, then by giver
        self._total: Words = np.zeros(length, dtype=np.uint32)
        self.wrong: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return f"MaskingServer(place={self._place!r}, step={self._step!r})"

    @property
    def waiting_for(self) -> list[str]:
        """Names of those whose message this step could still take."""
        if self._step == "advertise":
            return [name for name in self._roster.names if name not in self._advertised]
        circle = self._gathered()
        return [circle.names[i] for i in range(circle.size) if self._awaits(i)]

    def take_advertisement(self, name: str, data: bytes) -> None:
        """A client takes part.

        Raises:
            PayloadError: It is malformed, or not signed by the member for this sum.
            OpeningRefusedError: It comes at another step, or a second time.
        """
        self._due("advertise")
        if name in self._advertised:
            raise OpeningRefusedError(f"member {name} has advertised for {self._place} already")
        advertisement = unpack_advertisement(data)
        advertisement.check(self._place, self._roster, name)
        # A key that nobody can seal to would make its neighbours fail.
        seal(b"", advertisement.sealing, b"")
        self._advertised[name] = advertisement

    def advertisements(self) -> bytes:
        """What everybody who advertised gets next.

        Raises:
            OpeningRefusedError: Too few take part, or the sum is past this step.
        """
        if self._step == "advertise":
            self._circle = gather(self._place, self._roster, self._advertised, self._rules)
            self._to_all = pack_advertisements(self._circle, self._advertised)
            self._step = "share"
        self._due("share")
        return self._to_all

    def take_shares(self, name: str, data: bytes) -> None:
        """A client's packages for its neighbours.

        Raises:
            PayloadError: They are of another length, or not signed: who dealt them is left out
                before others refuse them.
            OpeningRefusedError: They come at another step, a second time, or from a stranger.
        """
        circle, me = self._asked("share", name)
        others = circle.neighbours(me).tolist()
        sizes = [package_bytes(me, other) for other in others]
        inside = contents("shares", data, sum(sizes))
        packages = dict(zip(others, pieces(inside, sizes), strict=True))
        for other, package in packages.items():
            check_package(circle, me, other, Package.from_bytes(package), self._roster)
        for other, package in packages.items():
            self._packages.setdefault(other, {})[me] = package
        self._shared.add(me)

    def inbox_for(self, name: str) -> bytes:
        """What a client that shared gets next.

        Raises:
            OpeningRefusedError: Too few shared, the client did not, or the sum is past this step.
        """
        circle = self._gathered()
        if self._step == "share":
            sharers = self._sharers()
            circle.check(sharers, "shared their secrets")
            self._view, self._to_all = circle.view(sharers), pack_members(sharers)
            self._step = "mask"
        self._due("mask")
        me = self._number(name)
        if me not in self._shared:
            raise OpeningRefusedError(f"member {name} has not shared its secrets: it is out")
        senders = [j for j in circle.neighbours(me).tolist() if j in self._shared]
        return frame("inbox", self._to_all, *(self._packages[me][j] for j in senders))

    def take_masked(self, name: str, data: bytes) -> None:
        """Add a client's masked vector.

        Raises:
            PayloadError: It is of another length, or the client masked among others than it should.
            OpeningRefusedError: It comes at another step, a second time, or from a stranger.
        """
        _, me = self._asked("mask", name)
        inside = contents("masked", data, SIGNATURE_BYTES + 4 * self._length)
        signature = bytes(inside[:SIGNATURE_BYTES])
        if not self._roster.member(name).verifies(self._view, signature):
            raise PayloadError(f"member {name} masked among other participants than were announced")
        self._total += np.frombuffer(inside[SIGNATURE_BYTES:], dtype="<u4")
        self._views[me] = signature

    def survivors(self) -> bytes:
        """What everybody who masked gets next.

        Raises:
            OpeningRefusedError: Too few masked, or the sum is past this step.
        """
        circle = self._gathered()
        if self._step == "mask":
            members = self._members()
            circle.check(members, "sent masked vectors")
            self._to_all = frame("survivors", pack_members(members))
            self._agreement = circle.agreement(self._sharers(), members)
            # Shares have been passed on; seeds of common masks may be needed yet.
            self._edges = {
                receiver: {j: Package.from_bytes(data).edge for j, data in packages.items()}
                for receiver, packages in self._packages.items()
            }
            self._step, self._packages = "agree", {}
        self._due("agree")
        return self._to_all

    def take_agreement(self, name: str, data: bytes) -> None:
        """A client's signature over the members of the sum.

        Raises:
            PayloadError: It is malformed, or does not fit.
            OpeningRefusedError: It comes at another step, a second time, or from a stranger.
        """
        _, me = self._asked("agree", name)
        signature = bytes(contents("agreement", data, SIGNATURE_BYTES))
        if not self._roster.member(name).verifies(self._agreement, signature):
            raise PayloadError(f"member {name} signed another sum than was announced")
        self._agreed[me] = signature

    def signatures_for(self, name: str) -> bytes:
        """What a client that agreed gets next.

        Raises:
            OpeningRefusedError: Too few agreed, the client did not, or the sum is past this step.
        """
        circle = self._gathered()
        quorum = circle.neighbourhood.quorum
        if self._step == "agree":
            if len(self._agreed) < quorum:
                raise OpeningRefusedError(
                    f"{len(self._agreed)} of {circle.size} clients agreed on the sum; at least "
                    f"{quorum} must. Nothing was opened"
                )
            self._step = "reveal"
        self._due("reveal")
        me = self._number(name)
        if me not in self._agreed:
            raise OpeningRefusedError(f"member {name} has not agreed on the sum: it is out")
        signers = dict(list(self._agreed.items())[:quorum])
        views = [self._views[j] for j in circle.neighbours(me).tolist() if j in self._views]
        return pack_signatures(signers, views)

    def take_reveal(self, name: str, data: bytes) -> None:
        """A client's shares of its neighbours' secrets.

        Raises:
            PayloadError: They are of another length.
            OpeningRefusedError: They come at another step, a second time, or from a stranger.
        """
        circle, me = self._asked("reveal", name)
        about = [j for j in circle.holders(me).tolist() if j in self._shared]
        inside = contents("reveal", data, SHARE_BYTES * len(about))
        for other, share in zip(about, pieces(inside, [SHARE_BYTES] * len(about)), strict=True):
            self._given.setdefault(other, {})[me] = share
        self._revealed.add(me)

    def result(self) -> IntVector:
        """The sum; further messages are taken, and it may be asked for again, until it is there.

        Raises:
            OpeningRefusedError: A secret has fewer shares than the threshold; nothing is opened.
            PayloadError: A secret cannot be got back from its shares, or the sum is out of range.
        """
        if self._step != "":
            self._due("reveal")
            circle = self._gathered()
            masks = masks_left(
                circle,
                {circle.number[name]: made for name, made in self._advertised.items()},
                self._place,
                self._sharers(),
                self._members(),
                given=self._given,
                edges=self._edges,
            )
            change_masks(self._total, masks.add, masks.subtract)
            self.wrong = [(circle.names[giver], circle.names[j]) for giver, j in masks.wrong]
            self._step, self._edges, self._given = "", {}, {}
        total = self._total.view(np.int32).astype(np.int64)
        most = self._rules.sums.capacity
        if total.size and max(int(total.max()), -int(total.min())) > most:
            raise PayloadError(
                f"the sum for {self._place} holds values beyond {most} grid steps: a client sent "
                "other values or masks than it had to"
            )
        return total

    def _sharers(self) -> Members:
        return self._gathered().members(self._shared)

    def _members(self) -> Members:
        return self._gathered().members(self._views)

    def _gathered(self) -> Circle:
        if self._circle is None:
            raise OpeningRefusedError(f"nobody takes part in the sum for {self._place} yet")
        return self._circle

    def _number(self, name: str) -> int:
        circle = self._gathered()
        if name not in circle.number:
            raise OpeningRefusedError(f"member {name} does not take part in the sum: it is out")
        return circle.number[name]

    def _due(self, step: str) -> None:
        if self._step != step:
            at = f"at '{self._step}'" if self._step else "open"
            raise OpeningRefusedError(
                f"the step '{step}' of the sum for {self._place} is not due: the sum is {at}"
            )

    def _asked(self, step: str, name: str) -> tuple[Circle, int]:
        """Refuse what was not asked for: another step, a stranger, a dropout, or a second time."""
        self._due(step)
        me = self._number(name)
        if not self._awaits(me):
            raise OpeningRefusedError(
                f"the step '{step}' of the sum for {self._place} does not wait for member {name}: "
                "it has answered already, or missed an earlier step"
            )
        return self._gathered(), me

    def _awaits(self, index: int) -> bool:
        """Whether the step that the sum is at waits for a participant."""
        return {
            "share": index not in self._shared,
            "mask": index in self._shared and index not in self._views,
            "agree": index in self._views and index not in self._agreed,
            "reveal": index in self._agreed and index not in self._revealed,
        }.get(self._step, False)
