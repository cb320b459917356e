"""What a node keeps of the servers that it talks to: in which session it is, and how far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flwr.app import ConfigRecord, Context

from qfl.identity.countersigning import Head
from qfl.identity.refusal import Refusal, RefusedError

_STATE = "qfl-signed"


@dataclass(frozen=True)
class Conversation:
    """With one server at a time.

    Attributes:
        server: The server's identifier; empty before one introduced itself.
        sessions: The latest session of each server, by identifier. They are named by the time at
            which they began, so that none of before comes back.
        numbers: Of the latest message in each. A server counts up, so that what is sent again, or
            comes late, is not taken.
        head: Latest head of the server's audit trail.
    """

    server: str = ""
    sessions: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    head: Head | None = None

    @staticmethod
    def of(context: Context) -> Conversation:
        """The node's; an empty one before anybody introduced himself."""
        held = context.state.config_records.get(_STATE)
        if held is None:
            return Conversation()
        servers, sessions, numbers = held["servers"], held["sessions"], held["numbers"]
        n = held["head-n"]
        assert isinstance(servers, list) and isinstance(sessions, list)
        assert isinstance(numbers, list) and isinstance(n, int)
        return Conversation(
            server=str(held["server"]),
            sessions=dict(zip(map(str, servers), map(str, sessions), strict=True)),
            numbers=dict(zip(map(str, servers), map(int, numbers), strict=True)),
            head=Head(str(held["head-run"]), n, str(held["head-digest"])) if n else None,
        )

    def keep(self, context: Context) -> None:
        """Put it into the node's state."""
        head = self.head or Head("", 0, "")
        context.state[_STATE] = ConfigRecord(
            {
                "server": self.server,
                "servers": list(self.sessions),
                "sessions": list(self.sessions.values()),
                "numbers": [self.numbers[server] for server in self.sessions],
                "head-run": head.run,
                "head-n": head.n,
                "head-digest": head.digest,
            }
        )

    @property
    def session(self) -> str:
        """The session with the present server; empty before there is one."""
        return self.sessions.get(self.server, "")

    @property
    def number(self) -> int:
        """Number of the latest message in the session."""
        return self.numbers.get(self.server, 0)

    def entered(self, session: str, server: str) -> Conversation:
        """The conversation after a server introduced itself.

        Raises:
            RefusedError: That session began before one that this node knows.
        """
        last = self.sessions.get(server, "")
        if session < last:
            raise RefusedError(
                Refusal.REPLAYED,
                f"session {session!a} of {server} began before session {last!a}, in which this "
                "node was already",
            )
        # In a session that goes on, its numbers do.
        number = self.numbers.get(server, 0) if session == last else 0
        # The trail of a resumed run goes on too, so its head is kept.
        return Conversation(
            server,
            {**self.sessions, server: session},
            {**self.numbers, server: number},
            self.head,
        )

    def heard(self, number: int) -> Conversation:
        """The conversation after a message of this number.

        Raises:
            RefusedError: One of this number or a later one was heard.
        """
        if number <= self.number:
            raise RefusedError(
                Refusal.REPLAYED,
                f"message {number} of {self.server} came after message {self.number}: it was sent "
                "again, or late",
            )
        return replace(self, numbers={**self.numbers, self.server: number})

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
