"""What was spent of every data set's privacy, across rounds and runs, on the disk before it is due.

An entry is written before the data are touched and never taken back: a round that crashed may have
released something. Nothing is spent beyond a budget, whoever else uses the same file.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection

from qfl.errors import BudgetSpentError
from qfl.privacy.accounting import epsilon_of
from qfl.privacy.charge import Charge
from qfl.privacy.ledger_entry import Budget, Entry, short_name
from qfl.privacy.ledger_file import (
    Place,
    append,
    charge_from,
    charge_text,
    connected,
    create,
    follow,
    inspect,
)
from qfl.privacy.ledger_room import expanded, fits

__all__ = ["Budget", "Entry", "Ledger"]


class Ledger:
    """A ledger in a file, which threads and processes may share.

    Every entry carries a digest over itself and the entry before, so one that was changed, dropped,
    put in or moved is found when the file is opened and where entries are read. What the file alone
    cannot show is that its last entries are gone, or that somebody computed all digests anew: for
    that an audit keeps ``place``, their number and the last digest, elsewhere.

    A pickled ledger carries its path alone and reads the file when it is next used.

    Args:
        path: The file, made if there is none; its folder must exist.

    Raises:
        PrivacyError: It cannot be made, read or trusted. Every method raises it too.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> ledger = Ledger(Path(folder.name) / "ledger.sqlite")
        >>> charge = Charge("gaussian", noise_multiplier=1.0)
        >>> ledger.spend(Entry("00c0ffee1234", "3", "demo", 1, 0, charge), Budget(5.0, 1e-5))
        >>> ledger.count, round(ledger.epsilon("00c0ffee1234", 1e-5), 2)
        (1, 4.38)
        >>> folder.cleanup()
    """

    def __init__(self, path: Path | str) -> None:
        self._start(Path(path).absolute())
        if not self.path.exists():
            create(self.path)
        self._read()

    def _start(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._place = Place()
        self._spent: dict[str, Counter[Charge]] = {}

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self._start(state["path"])

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    @property
    def place(self) -> Place:
        """Number of entries, and the digest of the last, which vouches for all before it."""
        return self._read()

    @property
    def count(self) -> int:
        """Number of entries."""
        return self._read().count

    def spend(self, entry: Entry, budget: Budget) -> None:
        """Record a charge; it is on the disk when this returns.

        The same run, round and attempt again is charged again.

        Raises:
            BudgetSpentError: All charges of the data set and this one would pass the budget.
                Nothing was written.
        """
        text = charge_text(entry.charge)
        entry = replace(entry, charge=charge_from(text), time=_now())
        with self._lock, connected(self.path) as connection:
            self._catch_up(connection)
            # What takes long is computed, and kept, before others have to wait for their turn.
            self._refuse_beyond(entry, budget)
            connection.execute("BEGIN IMMEDIATE")
            self._catch_up(connection)
            self._refuse_beyond(entry, budget)
            place = append(connection, self._place, entry, text)
            connection.execute("COMMIT")
            self._take(entry, place)

    def entries(self, dataset: str | None = None) -> list[Entry]:
        """All entries, or a data set's, in the order in which they were written."""
        with connected(self.path) as connection:
            found = [entry for entry, _ in follow(self.path, connection, Place())]
        return [entry for entry in found if dataset in (None, entry.dataset)]

    def charges(self, dataset: str) -> list[Charge]:
        """What was spent on a data set, equal charges together."""
        with self._lock:
            self._read()
            return expanded(self._spent.get(dataset, {}))

    def datasets(self) -> list[str]:
        """Data sets on which something was spent, the earliest first."""
        with self._lock:
            self._read()
            return list(self._spent)

    def epsilon(self, dataset: str, delta: float, accountant: str = "auto") -> float:
        """What a data set's charges come to; 0 where there are none, infinite without noise."""
        charges = self.charges(dataset)
        return epsilon_of(charges, delta, accountant) if charges else 0.0

    def _read(self) -> Place:
        with self._lock, connected(self.path) as connection:
            self._catch_up(connection)
            return self._place

    def _catch_up(self, connection: Connection) -> None:
        new = not self._place.count
        for entry, place in follow(self.path, connection, self._place):
            self._take(entry, place)
        if new:
            inspect(self.path, connection)

    def _take(self, entry: Entry, place: Place) -> None:
        self._spent.setdefault(entry.dataset, Counter())[entry.charge] += 1
        self._place = place

    def _refuse_beyond(self, entry: Entry, budget: Budget) -> None:
        spent = self._spent.get(entry.dataset, Counter())
        if fits(spent, entry.charge, budget):
            return
        before = self._epsilon_of(expanded(spent), budget)
        after = self._epsilon_of([*expanded(spent), entry.charge], budget)
        raise BudgetSpentError(
            f"data set {short_name(entry.dataset)} of client {entry.client} has spent epsilon "
            f"{before:.4g} and round {entry.round} of run {entry.run} would make it {after:.4g} "
            f"(delta {budget.delta:g}); its budget is {budget.epsilon:g}. The round does not "
            "start. Stop here, or train longer only with more noise or other data; a larger "
            "budget is a weaker promise to those whose data they are"
        )

    @staticmethod
    def _epsilon_of(charges: list[Charge], budget: Budget) -> float:
        return epsilon_of(charges, budget.delta, budget.accountant) if charges else 0.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
