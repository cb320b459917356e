"""What a node takes part with: who it is, whom it knows, and what it insists on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from qfl.identity.canonical import decode_parts, encode
from qfl.identity.description import DESCRIPTION, Description
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.opening import open_envelope
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.sending import seal_message

Chain = tuple[Description, ...]
MOST_PEOPLE = 20_000
MOST_LINKS = 64
LONGEST_LINK = DESCRIPTION.at_most


@dataclass(frozen=True, repr=False)
class Credentials:
    """One node's side of every identity in a federation.

    Attributes:
        identity: Its own keys.
        chain: Its descriptions, from the one that others pinned to the present one.
        registry: Whom it knows, and what they may do.
        floor: Weakest terms on which it takes part.
        acquainted: Digests of the participants' descriptions that the registry was given.
        now: The clock, in seconds since 1970 in UTC.
    """

    identity: Identity
    chain: Chain
    registry: Registry
    floor: Floor = field(default_factory=Floor)
    acquainted: set[str] = field(default_factory=set)
    now: Callable[[], float] = time.time

    @staticmethod
    def of(identity: Identity, registry: Registry, floor: Floor | None = None) -> Credentials:
        """Those of an identity that was never rotated; the registry learns of it if it pins it."""
        with suppress(RefusedError):
            registry.admit([identity.description])
        return Credentials(identity, (identity.description,), registry, floor or Floor())

    def __repr__(self) -> str:
        return f"Credentials(did={self.did!r})"

    @property
    def did(self) -> str:
        """The node's present identifier."""
        return self.identity.did

    def seal(
        self, payload: bytes, place: Place, receivers: Sequence[Description], *, sealed: bool = True
    ) -> tuple[Envelope, bytes]:
        """Sign a message, and seal it to its receivers; see :mod:`qfl.identity.sending`."""
        return seal_message(payload, self.identity, place, receivers, sealed=sealed)

    def open(self, data: bytes, expected: Expected) -> tuple[Envelope, bytes]:
        """What was sent to this node; see :mod:`qfl.identity.opening`.

        Nothing is kept of what was opened: whoever opens makes sure that it comes once.
        """
        return open_envelope(
            data,
            expected,
            self.registry,
            self.now(),
            identity=self.identity,
            guard=ReplayGuard(),
        )

    def permit(self, did: str, permission: str) -> None:
        """Make sure that a node may do something; see :meth:`Registry.permit`."""
        self.registry.permit(did, permission, self.now())


def chain_to_bytes(chain: Sequence[Description]) -> bytes:
    """A node's descriptions as bytes, about 6.7 kB each."""
    return encode([one.to_bytes() for one in chain])


def chain_from_bytes(data: bytes) -> Chain:
    """The inverse of :func:`chain_to_bytes`; signatures are for the registry to check.

    Raises:
        RefusedError: The bytes are damaged, or no chain.
    """
    links = decode_parts(data, "a chain of descriptions", MOST_LINKS, LONGEST_LINK)
    if not links:
        raise RefusedError(Refusal.DAMAGED, "a chain of descriptions is empty")
    return tuple(map(Description.from_bytes, links))


def people_to_bytes(chains: Iterable[Sequence[Description]]) -> bytes:
    """Everybody's descriptions as bytes."""
    return encode([chain_to_bytes(chain) for chain in chains])


def people_from_bytes(data: bytes) -> list[Chain]:
    """The inverse of :func:`people_to_bytes`.

    Raises:
        RefusedError: The bytes are damaged, or not descriptions.
    """
    chains = decode_parts(data, "the participants", MOST_PEOPLE, MOST_LINKS * LONGEST_LINK)
    return list(map(chain_from_bytes, chains))
