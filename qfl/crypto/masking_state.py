"""What a client remembers between the steps of one sum under masks. All of it is secret."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise

from qfl.crypto.masking_statements import Members, pack_members, unpack_members
from qfl.crypto.masking_wire import DIGEST_BYTES, SHARE_BYTES, contents, frame
from qfl.crypto.members import MOST_MEMBERS, NAME_BYTES
from qfl.crypto.sealing import SEED_BYTES
from qfl.errors import PayloadError

STEPS = ("", "advertise", "share", "mask", "agree", "reveal")
_FIELDS = 9
_DAMAGED = "the kept state of a masked sum is damaged"


@dataclass(repr=False)
class ClientState:
    """One client's part in one sum.

    Attributes:
        owner: Digest of the client's name, the roster and the place that the state belongs to.
        step: The last one taken, of :data:`STEPS`.
        seed: Seed of the client's own mask; empty once it has masked.
        root: What the keys of this sum grow from; empty once the client has masked.
        names: Participants, in order; empty before they are known.
        digest: Of the circle.
        held: Shares of others' secrets and of its own, 128 bytes each, by number.
        shared: Who shared; None before that is known.
        survivors: The members that the client agreed on.
        answer: The shares that it gave.
    """

    owner: bytes
    step: str = ""
    seed: bytes = b""
    root: bytes = b""
    names: list[str] = field(default_factory=list)
    digest: bytes = b""
    held: dict[int, bytes] = field(default_factory=dict)
    shared: Members | None = None
    survivors: Members | None = None
    answer: bytes = b""

    def __repr__(self) -> str:
        return f"ClientState(step={self.step!r})"

    def to_bytes(self) -> bytes:
        """All of it, for keeping between messages."""
        held = b"".join(struct.pack("<I", index) + both for index, both in self.held.items())
        fields = (
            self.owner + bytes([STEPS.index(self.step)]),
            self.seed,
            self.root,
            bytes.fromhex("".join(self.names)),
            self.digest,
            held,
            b"" if self.shared is None else pack_members(self.shared),
            b"" if self.survivors is None else pack_members(self.survivors),
            self.answer,
        )
        return frame("state", *(struct.pack("<I", len(part)) + part for part in fields))

    @staticmethod
    def from_bytes(data: bytes) -> ClientState:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The bytes are no state.
        """
        owner, seed, root, names, digest, held, shared, survivors, answer = _fields(data)
        count, entry = len(names) // NAME_BYTES, 4 + 2 * SHARE_BYTES
        if (
            len(owner) != DIGEST_BYTES + 1
            or owner[-1] >= len(STEPS)
            or len(names) % NAME_BYTES
            or count > MOST_MEMBERS
            or len(held) % entry
        ):
            raise PayloadError(_DAMAGED)
        state = ClientState(
            owner=owner[:-1],
            step=STEPS[owner[-1]],
            seed=seed,
            root=root,
            names=[names[at : at + NAME_BYTES].hex() for at in range(0, len(names), NAME_BYTES)],
            digest=digest,
            held={
                int.from_bytes(held[at : at + 4], "little"): held[at + 4 : at + entry]
                for at in range(0, len(held), entry)
            },
            shared=unpack_members(shared, count) if shared else None,
            survivors=unpack_members(survivors, count) if survivors else None,
            answer=answer,
        )
        if not state.whole:
            raise PayloadError(_DAMAGED)
        return state

    @property
    def whole(self) -> bool:
        """Whether all is there that its step needs."""
        at = STEPS.index(self.step)
        secret = SEED_BYTES if at < STEPS.index("mask") else 0
        joined = at >= STEPS.index("share")
        return (
            len(self.seed) == len(self.root) == secret
            and bool(self.names) == joined
            and len(self.digest) == (DIGEST_BYTES if joined else 0)
            and all(first < second for first, second in pairwise(self.names))
            and all(index < len(self.names) for index in self.held)
            and (self.shared is not None) == (at >= STEPS.index("mask"))
            and (self.survivors is not None) == (at >= STEPS.index("agree"))
            and bool(self.answer) == (self.step == "reveal")
        )


def _fields(data: bytes) -> list[bytes]:
    inside = contents("state", data)
    found: list[bytes] = []
    start = 0
    while start + 4 <= len(inside) and len(found) < _FIELDS:
        (size,) = struct.unpack_from("<I", inside, start)
        found.append(bytes(inside[start + 4 : start + 4 + size]))
        start += 4 + size
    if len(found) != _FIELDS or start != len(inside):
        raise PayloadError(_DAMAGED)
    return found
