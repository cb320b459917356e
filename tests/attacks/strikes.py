"""What an attacker does to one message, chosen by kind, way and node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from flwr.app import Message
from man_in_the_middle import Middle, Seen, Way, addressed, answering

TARGET, OTHER = 2, 3
"""Nodes: whose messages are struck at, and whose are used for it."""


@dataclass(frozen=True)
class Kind:
    """A kind of message.

    Attributes:
        case: Federation in which it occurs.
        name: The step.
        label: What is summed.
        lost: What comes of it when one is lost: its node is ``left out`` of the run, or of this
            sum (``fewer``); all is the ``same``, since the others are enough; or the run ``ends``.
        one: Whether one node alone gets it.
    """

    case: str
    name: str
    label: str
    lost: str
    one: bool = False


KINDS = [
    Kind("ckks", "introduce", "", "left out"),
    Kind("ckks", "hello", "hello", "left out"),
    Kind("ckks", "keygen", "keygen", "ends", one=True),
    Kind("ckks", "sum", "count", "ends"),
    Kind("ckks", "train", "train", "fewer"),
    Kind("ckks", "evaluate", "evaluate", "fewer"),
    Kind("ckks", "open", "train", "ends", one=True),
    Kind("committee", "adopt", "adopt", "ends", one=True),
    Kind("committee", "agree", "train", "same"),
    Kind("committee", "open", "train", "same"),
    Kind("committee", "combine", "train", "ends", one=True),
    Kind("masking", "advertise", "train", "fewer"),
    Kind("masking", "deal", "train", "fewer"),
    Kind("masking", "agree", "train", "same"),
    Kind("masking", "reveal", "train", "same"),
]


class Deed(Protocol):
    """What is done."""

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """What becomes of the message that is struck at."""

    def later(self, middle: Middle, struck: Seen, seen: Seen, message: Message) -> list[Message]:
        """What becomes of those that come after it."""


@dataclass
class Strike:
    """Strikes once.

    Attributes:
        kind: At what.
        way: On its way to a node, or back.
        deed: What is done.
        session: In which session of the server.
        struck: What was struck at.
    """

    kind: Kind
    way: Way
    deed: Deed
    session: int = 0
    struck: Seen | None = None

    def __call__(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """An act of a :class:`Middle`."""
        if self.struck is not None:
            return self.deed.later(middle, self.struck, seen, message)
        if not self._meant(seen):
            return [message]
        self.struck = seen
        return self.deed.at(middle, seen, message)

    def _meant(self, seen: Seen) -> bool:
        kind = (seen.way, seen.kind, seen.label, seen.session)
        return kind == (self.way, self.kind.name, self.kind.label, self.session) and (
            self.kind.one or seen.node == TARGET
        )


class Dropped:
    """It never arrives."""

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """Nothing."""
        return []

    def later(self, middle: Middle, struck: Seen, seen: Seen, message: Message) -> list[Message]:
        """As it is."""
        return [message]


@dataclass
class Late(Dropped):
    """It arrives when everybody has gone on.

    Attributes:
        until: Whether what is seen now is late enough.
        held: What was held back.
    """

    until: Callable[[Seen, Seen], bool]
    held: Message | None = None

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """Nothing yet."""
        self.held = message
        return []

    def later(self, middle: Middle, struck: Seen, seen: Seen, message: Message) -> list[Message]:
        """As it is; before it comes what was held back."""
        if self.held is not None and self.until(struck, seen):
            late, self.held = self.held, None
            if struck.way == "reply":
                return [late, message]
            middle.deliver(late, middle.key_of(struck.node, struck))
        return [message]


@dataclass
class Altered(Dropped):
    """It arrives as something else.

    Attributes:
        change: What it becomes.
    """

    change: Callable[[Middle, Seen, Message], Message]

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """The other thing."""
        return [self.change(middle, seen, message)]


@dataclass
class Redirected(Dropped):
    """A request goes to another node; a reply comes from another node, which it serves as well.

    Attributes:
        done: Whether it is over.
    """

    done: bool = False

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """To the other node, or what that one said last, if it is not asked the same."""
        self.done = True
        other = OTHER if seen.node != OTHER else TARGET
        if seen.way == "request":
            return [addressed(message, other)]
        try:
            key = middle.key_of(other, seen)
        except StopIteration:
            said = [one for whose, one in middle.replies if whose.node == other]
            return [answering(said[-1], middle.key_of(seen.node, seen))]
        said = [one for _, one in middle.replies if one.metadata.reply_to_message_id == key]
        self.done = bool(said)
        return [answering(one, middle.key_of(seen.node, seen)) for one in said]

    def later(self, middle: Middle, struck: Seen, seen: Seen, message: Message) -> list[Message]:
        """As it is; the other node's reply a second time, in the first one's place."""
        if self.done or replace(seen, node=struck.node) != struck or seen.node != OTHER:
            return [message]
        self.done = True
        return [message, answering(message, middle.key_of(struck.node, struck))]


class Replayed(Dropped):
    """In its place arrives what the same node was sent, or answered, before.

    In place of the first message of a session that is the first one of the session before.
    """

    def at(self, middle: Middle, seen: Seen, message: Message) -> Iterable[Message]:
        """The earlier one."""
        mine = middle.key_of(seen.node, seen)
        if seen.kind == "introduce":
            earlier = middle.key_of(seen.node, replace(seen, session=seen.session - 1))
        else:
            earlier = middle.before(seen)[-1]
        if seen.way == "request":
            return [middle.messages[earlier]]
        return [answering(middle.reply_to(earlier), mine)]
