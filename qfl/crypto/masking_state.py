"""What a client remembers between the steps of one sum under masks. All of it is secret."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from qfl.crypto.masking_statements import Members, pack_members, unpack_members
from qfl.crypto.masking_wire import DIGEST_BYTES, SHARE_BYTES, contents, frame
from qfl.crypto.members import NAME_BYTES
from qfl.errors import PayloadError

STEPS = ("", "advertise", "share", "mask", "agree", "reveal")


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
        body = b"".join(struct.pack("<I", len(part)) + part for part in fields)
        return frame("state", hashlib.sha256(body).digest(), body)

    @staticmethod
    def from_bytes(data: bytes) -> ClientState:
        """The inverse of :meth:`to_bytes`.

        Raises:
            PayloadError: The bytes are no state.
        """
        owner, seed, root, names, digest, held, shared, survivors, answer = _fields(data)
        count, entry = len(names) // NAME_BYTES, 4 + 2 * SHARE_BYTES
        return ClientState(
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


def _fields(data: bytes) -> list[bytes]:
    inside = contents("state", data)
    body = inside[DIGEST_BYTES:]
    if bytes(inside[:DIGEST_BYTES]) != hashlib.sha256(body).digest():
        raise PayloadError("the kept state of a masked sum is damaged")
    found: list[bytes] = []
    start = 0
    while start < len(body):
        (size,) = struct.unpack_from("<I", body, start)
        found.append(bytes(body[start + 4 : start + 4 + size]))
        start += 4 + size
    return found
