"""The client's side of a sum under masks.

After Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS
2017), in the variant against a server that lies. Every vector carries a mask of its own and one
mask for each pair of neighbours; pairs cancel in the sum. Once everybody has agreed on who is in
the sum, the members' own masks and the pair masks of those who vanished are opened from shares,
and never both of one client: whoever has both reads its vector.

Five steps, each of which answers one message of the server: :meth:`MaskingClient.advertise`,
``share``, ``mask``, ``agree``, ``reveal``. A client that misses one is out of this sum.
"""

from __future__ import annotations

import secrets

import numpy as np

from qfl.crypto.encoding import IntVector, check_capacity
from qfl.crypto.keystream import change_masks
from qfl.crypto.masking_circle import Circle, gather
from qfl.crypto.masking_package import (
    Package,
    edge_seed,
    make_package,
    open_edge,
    open_shares,
    package_bytes,
)
from qfl.crypto.masking_rules import MaskingRules
from qfl.crypto.masking_state import STEPS, ClientState
from qfl.crypto.masking_statements import (
    Advertisement,
    Members,
    commitment_of,
    map_bytes,
    statement,
    unpack_members,
)
from qfl.crypto.masking_wire import (
    SHARE_BYTES,
    contents,
    frame,
    pack_advertisement,
    pieces,
    unpack_advertisements,
    unpack_signatures,
)
from qfl.crypto.members import MemberKeys, Roster, check_signatures
from qfl.crypto.sealing import SEED_BYTES, SealingKey
from qfl.crypto.shamir import elements_of, split
from qfl.errors import OpeningRefusedError, PayloadError


class MaskingClient:
    """One client in one sum.

    Args:
        keys: The client's keys of the run.
        roster: Members of the run.
        place: Run, round, label and attempt as one text; never used for two sums.
        rules: From the client's own configuration.

    Raises:
        PayloadError: The client is not on the roster.
    """

    def __init__(self, keys: MemberKeys, roster: Roster, place: str, rules: MaskingRules) -> None:
        self._keys, self._roster, self._place, self._rules = keys, roster, place, rules
        self._circle: Circle | None = None
        roster.member(keys.name)
        self._state = ClientState(
            owner=self._owner(),
            seed=secrets.token_bytes(SEED_BYTES),
            root=secrets.token_bytes(SEED_BYTES),
        )

    def __repr__(self) -> str:
        return f"MaskingClient(name={self._keys.name!r}, place={self._place!r})"

    def to_bytes(self) -> bytes:
        """Everything to go on with later. Secret; keep only the newest, and at one place.

        Whoever goes back to an older state can be made to mask two vectors alike, which shows their
        difference.
        """
        return self._state.to_bytes()

    @staticmethod
    def from_bytes(
        data: bytes, keys: MemberKeys, roster: Roster, place: str, rules: MaskingRules
    ) -> MaskingClient:
        """Go on from :meth:`to_bytes`.

        Raises:
            PayloadError: The state is damaged, or belongs to another client, roster or place.
        """
        client = MaskingClient(keys, roster, place, rules)
        state = ClientState.from_bytes(data)
        if state.owner != client._owner():
            raise PayloadError("the kept state belongs to another client, roster or sum")
        client._state = state
        if state.names:
            client._circle = Circle(state.names, state.digest, rules)
        return client

    def advertise(self) -> bytes:
        """The keys that this client made for the sum.

        Raises:
            OpeningRefusedError: The client is past this step.
        """
        self._turn("advertise", again=True)
        self._state.step = "advertise"
        return pack_advertisement(self._advertisement())

    def share(self, advertisements: bytes) -> bytes:
        """Shares of this client's secrets, and seeds of common masks, sealed to its neighbours.

        Args:
            advertisements: Everybody's, from the server.

        Raises:
            PayloadError: One is malformed, not signed by its member for this sum, or changed; or
                the server reckons with other numbers of neighbours.
            OpeningRefusedError: Too few take part, or the client is past this step.
        """
        self._turn("share")
        advertised, *theirs = unpack_advertisements(advertisements)
        if advertised.get(self._keys.name) != self._advertisement():
            raise PayloadError(
                "the server's advertisements do not hold this client's own as it was made"
            )
        for name, advertisement in advertised.items():
            advertisement.check(self._place, self._roster, name)
        circle = gather(self._place, self._roster, advertised, self._rules)
        ours = [circle.neighbourhood.degree, circle.neighbourhood.threshold]
        if theirs != ours:
            raise PayloadError(
                f"the server reckons with (degree, threshold) {tuple(theirs)} for {circle.size} "
                f"clients; this client with {tuple(ours)}: dropout or corrupted differ"
            )
        me = circle.number[self._keys.name]
        holders = circle.holders(me).tolist()
        secret = elements_of(self._state.seed + self._state.root)
        points = [holder + 1 for holder in holders]
        rows = split(secret, circle.neighbourhood.threshold, points).astype("<u4")
        held, packages = {}, []
        for other, row in zip(holders, rows, strict=True):
            both = row.tobytes()
            if other == me:
                held[me] = both
                continue
            package = make_package(
                circle,
                self._keys,
                other,
                both,
                self._state.root,
                roster=self._roster,
                sealing=advertised[circle.names[other]].sealing,
            )
            packages.append(package.to_bytes())
        self._state.step, self._state.held = "share", held
        self._state.names, self._state.digest = circle.names, circle.digest
        self._circle = circle
        return frame("shares", *packages)

    def mask(self, values: IntVector, inbox: bytes) -> bytes:
        """This client's vector under its masks, 4 bytes per value.

        Args:
            values: Multiples of the grid's step, (length,).
            inbox: Who shared, and what neighbours sealed for this client, from the server.

        Raises:
            RangeError: A value exceeds the capacity.
            PayloadError: The inbox is malformed, or a package is not its sender's.
            OpeningRefusedError: Too few shared, or the client is past this step.
        """
        self._turn("mask")
        check_capacity(values, self._rules.sums)
        circle, me = self._joined()
        inside = contents("inbox", inbox)
        head = map_bytes(circle.size)
        shared = unpack_members(bytes(inside[:head]), circle.size)
        self._check_set(shared, "shared their secrets")
        others = [j for j in circle.neighbours(me).tolist() if shared[j]]
        sizes = [package_bytes(other, me) for other in others]
        contents("inbox", inbox, head + sum(sizes))
        held = dict(self._state.held)
        add, subtract = [self._state.seed], []
        own_key = SealingKey(self._state.root)
        for other, data in zip(others, pieces(inside[head:], sizes), strict=True):
            package = Package.from_bytes(data)
            held[other] = open_shares(circle, other, self._keys, package, self._roster)
            if me < other:
                add.append(edge_seed(circle, me, other, self._state.root))
            else:
                subtract.append(open_edge(circle, other, me, package.edge, own_key))
        masked = values.astype(np.uint32)
        change_masks(masked, add, subtract)
        self._state.step, self._state.held, self._state.shared = "mask", held, shared
        # Nothing below needs them, and whoever reads the state later must not find them.
        self._state.seed = self._state.root = b""
        signature = self._keys.sign(circle.view(shared))
        return frame("masked", signature, masked.astype("<u4", copy=False).data)

    def agree(self, survivors: bytes) -> bytes:
        """A signature over who is in the sum. Each client gives one, for one set.

        Args:
            survivors: Who sent a masked vector, from the server.

        Raises:
            PayloadError: The set is malformed.
            OpeningRefusedError: The set is not sound, another set was agreed on, or the client has
                not masked.
        """
        self._turn("agree", again=True)
        circle, _ = self._joined()
        data = contents("survivors", survivors, map_bytes(circle.size))
        members = unpack_members(bytes(data), circle.size)
        assert self._state.shared is not None
        if self._state.survivors is not None and (members != self._state.survivors).any():
            raise OpeningRefusedError(
                f"this client has agreed on the sum of {int(self._state.survivors.sum())} clients "
                f"for {self._place}, and on no other"
            )
        if (members & ~self._state.shared).any():
            raise OpeningRefusedError("the sum is said to hold clients that did not share secrets")
        self._check_set(members, "sent masked vectors")
        self._state.step, self._state.survivors = "agree", members
        return frame("agreement", self._keys.sign(circle.agreement(self._state.shared, members)))

    def reveal(self, signatures: bytes) -> bytes:
        """Shares that open the sum: one secret of each neighbour, never both.

        Args:
            signatures: Enough clients' agreements, and the neighbours' signatures over whom they
                masked among, from the server.

        Raises:
            PayloadError: A signature is wrong, or there are too few.
            OpeningRefusedError: The client has not agreed.
        """
        self._turn("reveal", again=True)
        if self._state.step == "reveal":
            return self._state.answer
        circle, me = self._joined()
        shared, members = self._state.shared, self._state.survivors
        assert shared is not None
        assert members is not None
        others = [j for j in circle.neighbours(me).tolist() if members[j]]
        signers, views = unpack_signatures(signatures, circle, len(others))
        agreed = circle.agreement(shared, members)
        check_signatures(agreed, signers, self._roster, circle.neighbourhood.quorum)
        # A neighbour that was told of other participants has left out masks that this sum needs.
        same = {circle.names[j]: view for j, view in zip(others, views, strict=True)}
        check_signatures(circle.view(shared), same, self._roster, len(others))
        answer = frame("reveal", *shares_to_give(circle, me, shared, members, self._state.held))
        self._state.step, self._state.answer, self._state.held = "reveal", answer, {}
        return answer

    def _advertisement(self) -> Advertisement:
        sealing = SealingKey(self._state.root).public
        commitment = commitment_of(self._state.seed, self._place, self._keys.name)
        unsigned = Advertisement(sealing, commitment)
        signature = self._keys.sign(unsigned.statement(self._place, self._roster))
        return Advertisement(sealing, commitment, signature)

    def _check_set(self, members: Members, what: str) -> None:
        circle, me = self._joined()
        if not members[me]:
            raise OpeningRefusedError(f"the server leaves this client out of those who {what}")
        circle.check(members, what)

    def _joined(self) -> tuple[Circle, int]:
        assert self._circle is not None
        return self._circle, self._circle.number[self._keys.name]

    def _turn(self, step: str, again: bool = False) -> None:
        """Refuse a step out of order; what was masked or shared once is not masked again."""
        due = STEPS[STEPS.index(step) - 1]
        if self._state.step != due and not (again and self._state.step == step):
            done = f"taken '{self._state.step}'" if self._state.step else "not advertised"
            raise OpeningRefusedError(
                f"asked to {step} for {self._place}, but this client has {done} there; steps are "
                f"taken once and in order ({', '.join(STEPS[1:])})"
            )

    def _owner(self) -> bytes:
        parts = (self._keys.name.encode(), self._roster.digest, self._place.encode())
        return statement("owner", *parts)


def shares_to_give(
    circle: Circle, me: int, shared: Members, survivors: Members, held: dict[int, bytes]
) -> list[bytes]:
    """Of each who shared: a share of its own mask's seed if it is in the sum, else of its root.

    This does as it is told. That everybody was told the same is for :meth:`MaskingClient.reveal`
    to make sure.
    """
    return [
        held[j][:SHARE_BYTES] if survivors[j] else held[j][SHARE_BYTES:]
        for j in circle.holders(me).tolist()
        if shared[j]
    ]
