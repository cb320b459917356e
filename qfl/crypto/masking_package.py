"""What one client sends another in a sum under masks, sealed and signed, through the server.

Shares go to the receiver's key of the run. The seed of the pair's common mask is chosen by the
lower name and goes to the receiver's key of this sum: so either root, once opened, gives it back,
one by deriving it, the other by opening the sealed copy that passed through the server.

Sealing hides who sealed: without the signature a server could slip in seeds of its own and take
every common mask off.
"""

from __future__ import annotations

from dataclasses import dataclass

from qfl.crypto.masking_circle import Circle
from qfl.crypto.masking_wire import SHARE_BYTES
from qfl.crypto.members import SIGNATURE_BYTES, MemberKeys, Roster
from qfl.crypto.sealing import SEED_BYTES, SealingKey, derive, seal
from qfl.errors import PayloadError

SEAL_BYTES = 1088 + 32 + 16  # ML-KEM ciphertext, X25519 key, tag
_SEALED_SHARES = 2 * SHARE_BYTES + SEAL_BYTES
_SEALED_EDGE = SEED_BYTES + SEAL_BYTES


@dataclass(frozen=True)
class Package:
    """Bytes of one package.

    Attributes:
        shares: Shares of the sender's two secrets, sealed.
        edge: Seed of the pair's common mask, sealed; empty from the higher name to the lower.
        signature: The sender's, over both.
    """

    shares: bytes
    edge: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """All three."""
        return self.shares + self.edge + self.signature

    @staticmethod
    def from_bytes(data: bytes) -> Package:
        """The inverse of :meth:`to_bytes`, for as many bytes as :func:`package_bytes` says."""
        end = len(data) - SIGNATURE_BYTES
        return Package(data[:_SEALED_SHARES], data[_SEALED_SHARES:end], data[end:])


def package_bytes(sender: int, receiver: int) -> int:
    """Bytes of a package between two participants, by their numbers."""
    return _SEALED_SHARES + (_SEALED_EDGE if sender < receiver else 0) + SIGNATURE_BYTES


def make_package(
    circle: Circle,
    sender: MemberKeys,
    receiver: int,
    both: bytes,
    root: bytes,
    *,
    roster: Roster,
    sealing: bytes,
) -> Package:
    """Seal and sign.

    Args:
        circle: Participants of the sum.
        sender: Keys of the run.
        receiver: Number of the receiver.
        both: The receiver's shares of the sender's secrets.
        root: The sender's.
        roster: Members of the run.
        sealing: The receiver's public key of this sum.

    Raises:
        PayloadError: The receiver's key is malformed.
    """
    me = circle.number[sender.name]
    member = roster.member(circle.names[receiver])
    shares, edge = member.seal(both, circle.between("shares", me, receiver)), b""
    if me < receiver:
        info = circle.between("edge", me, receiver)
        edge = seal(edge_seed(circle, me, receiver, root), sealing, info)
    signature = sender.sign(circle.between("package", me, receiver, shares, edge))
    return Package(shares, edge, signature)


def check_package(
    circle: Circle, sender: int, receiver: int, package: Package, roster: Roster
) -> None:
    """Make sure that a package is its sender's, for this receiver and sum.

    Raises:
        PayloadError: It is not.
    """
    name = circle.names[sender]
    signed = circle.between("package", sender, receiver, package.shares, package.edge)
    if not roster.member(name).verifies(signed, package.signature):
        raise PayloadError(f"what came from member {name} is not signed by it for this sum")


def open_shares(
    circle: Circle, sender: int, receiver: MemberKeys, package: Package, roster: Roster
) -> bytes:
    """The shares in a package.

    Raises:
        PayloadError: It is not the sender's, or not for this receiver and sum.
    """
    name, me = circle.names[sender], circle.number[receiver.name]
    check_package(circle, sender, me, package, roster)
    try:
        return receiver.open(package.shares, circle.between("shares", sender, me))
    except PayloadError as error:
        raise PayloadError(f"shares from member {name}: {error}") from None


def edge_seed(circle: Circle, chooser: int, other: int, root: bytes) -> bytes:
    """Seed of a pair's common mask, from the root of the one who chooses it."""
    return derive(root, circle.between("edge seed", chooser, other), SEED_BYTES)


def open_edge(circle: Circle, chooser: int, other: int, edge: bytes, key: SealingKey) -> bytes:
    """Seed of a pair's common mask, with the other's key of this sum.

    Raises:
        PayloadError: It was not sealed for this sum and pair.
    """
    try:
        return key.open(edge, circle.between("edge", chooser, other))
    except PayloadError as error:
        name = circle.names[chooser]
        raise PayloadError(f"seed of a common mask from member {name}: {error}") from None
