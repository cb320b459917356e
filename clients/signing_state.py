"""What a node keeps of the server that it talks to: which one, and what was said already."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flwr.app import ConfigRecord, Context

from qfl.identity.countersigning import Head
from qfl.identity.envelope import ID_BYTES, Place
from qfl.identity.refusal import Refusal, RefusedError

_STATE = "qfl-signed"


@dataclass(frozen=True)
class Conversation:
    """With one server, in one session.

    Attributes:
        session: Which.
        server: The server's identifier.
        left: Earlier sessions, none of which comes back.
        seen: Ids of the messages that were opened, one after the other.
        run: Run of the last message.
        round: Latest round of that run.
        head: Latest head of the server's audit trail.
    """

    session: str = ""
    server: str = ""
    left: tuple[str, ...] = ()
    seen: bytes = b""
    run: str = ""
    round: int = 0
    head: Head | None = None

    @staticmethod
    def of(context: Context) -> Conversation:
        """The node's; an empty one before anybody introduced himself."""
        held = context.state.config_records.get(_STATE)
        if held is None:
            return Conversation()
        left, seen, n = held["left"], held["seen"], held["head-n"]
        assert isinstance(left, list) and isinstance(seen, bytes) and isinstance(n, int)
        head = Head(str(held["head-run"]), n, str(held["head-digest"])) if n else None
        return Conversation(
            session=str(held["session"]),
            server=str(held["server"]),
            left=tuple(map(str, left)),
            seen=seen,
            run=str(held["run"]),
            round=int(str(held["round"])),
            head=head,
        )

    def keep(self, context: Context) -> None:
        """Put it into the node's state."""
        head = self.head or Head("", 0, "")
        context.state[_STATE] = ConfigRecord(
            {
                "session": self.session,
                "server": self.server,
                "left": list(self.left),
                "seen": self.seen,
                "run": self.run,
                "round": self.round,
                "head-run": head.run,
                "head-n": head.n,
                "head-digest": head.digest,
            }
        )

    def entered(self, session: str, server: str) -> Conversation:
        """The conversation after a server introduced itself.

        Raises:
            RefusedError: That session is over.
        """
        if session in self.left:
            raise RefusedError(
                Refusal.REPLAYED,
                f"session {session!a} of {server} is over for this node: it has gone on to another",
            )
        if session == self.session and server == self.server:
            return self
        left = (*self.left, self.session) if self.session else self.left
        # The trail of a resumed run goes on, so its head is kept.
        return Conversation(session, server, left, head=self.head)

    def heard(self, message: bytes, place: Place) -> Conversation:
        """The conversation after a message.

        Args:
            message: Its id.
            place: Where it belongs.

        Raises:
            RefusedError: It was opened before, or is of a round that is over.
        """
        ids = {self.seen[at : at + ID_BYTES] for at in range(0, len(self.seen), ID_BYTES)}
        if message in ids:
            raise RefusedError(
                Refusal.REPLAYED, f"message {message.hex()} of {self.server} was opened before"
            )
        if place.run == self.run and place.round < self.round:
            raise RefusedError(
                Refusal.ROUND,
                f"a message of round {place.round} came late: this node is in round {self.round} "
                f"of run {self.run}",
            )
        told = replace(self, seen=self.seen + message)
        # What belongs to no run has no round either.
        return (
            told if place.run == self.session else replace(told, run=place.run, round=place.round)
        )

    def shown(self, head: Head) -> Conversation:
        """The conversation after the server showed the head of its audit trail.

        Raises:
            RefusedError: The trail went back, or changed.
        """
        last = self.head
        if (
            last is not None
            and head.run == last.run
            and (head.n < last.n or (head.n == last.n and head.digest != last.digest))
        ):
            raise RefusedError(
                Refusal.HEAD,
                f"the server showed record {head.n} of its audit trail after record {last.n}: "
                "the trail was cut or changed",
            )
        return replace(self, head=head)
