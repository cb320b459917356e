"""Messages that were opened before are not opened again."""

from __future__ import annotations

from qfl.identity.refusal import Refusal, RefusedError

MOST_SEEN = 1_000_000


class ReplayGuard:
    """Which messages were opened, for each run, in this process.

    A message is bound to run, round, step and attempt. So after a restart, when nothing is kept,
    only messages of the step that is repeated could come again, and not even they if it is given
    another attempt.

    Args:
        most: Most messages of one run; a run beyond it is refused rather than forgotten.

    Example:
        >>> guard = ReplayGuard()
        >>> guard.add("run", "did:qfl:a", b"1")
        >>> guard.add("run", "did:qfl:a", b"1")
        Traceback (most recent call last):
        qfl.errors.RefusedError: message 31 of did:qfl:a was opened before in run 'run'
    """

    def __init__(self, most: int = MOST_SEEN) -> None:
        self._most = most
        self._seen: dict[str, set[tuple[str, bytes]]] = {}

    def check(self, run: str, sender: str, message: bytes) -> None:
        """Make sure that a message is new.

        Raises:
            RefusedError: It was opened before, or too many were.
        """
        seen = self._seen.get(run, set())
        if (sender, message) in seen:
            raise RefusedError(
                Refusal.REPLAYED,
                f"message {message.hex()} of {sender} was opened before in run {run!a}",
            )
        if len(seen) >= self._most:
            raise RefusedError(
                Refusal.REPLAYED, f"run {run!a} had {self._most} messages; no more are opened"
            )

    def add(self, run: str, sender: str, message: bytes) -> None:
        """Note a message that was opened.

        Raises:
            RefusedError: It was opened before, or too many were.
        """
        self.check(run, sender, message)
        self._seen.setdefault(run, set()).add((sender, message))

    def forget(self, run: str) -> None:
        """Drop what is kept of a run that is over."""
        self._seen.pop(run, None)
