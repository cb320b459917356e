"""What a person should know of a run's set-up, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from qfl.crypto import Layout
from qfl.strategies.selection import SelectAll, SelectBySize, Selection
from qfl.strategies.sums import Sums


def setup_notes(sums: Sums, layout: Layout, selection: Selection) -> Iterator[str]:
    """What is left out, and what this combination of settings lets somebody learn."""
    session = sums.session
    made = session.aggregation
    for problem in session.problems:
        yield f"left out: {problem}"
    if sums.mask is not None:
        clear = ~sums.mask
        open_in = {
            name: int((layout.where(name.__eq__) & clear).sum()) for name, _, _ in layout.entries
        }
        names = [f"{name} ({count})" for name, count in open_in.items() if count]
        yield (
            f"in the clear: {int(clear.sum())} of {clear.size} parameters "
            f"({100 * clear.mean():.1f} %), which the server reads of every client: "
            f"{', '.join(names)}"
        )
    if isinstance(selection, SelectBySize):
        yield "selection by size: the server knows every client's number of examples"
    if made.weighting == "examples" and not isinstance(selection, SelectAll):
        yield (
            "rounds of different clients: from their summed weights the server can work out "
            "every client's number of examples; weighting=uniform avoids that"
        )
    if made.release == "clients":
        yield "the model stays with the clients: the server passes on what it cannot read"
    holder = session.key_holder
    if made.trust == "key_holder" and holder in session.clients:
        yield f"key holder {holder} also trains"
        if made.min_clients < 3:
            yield (
                "a key holder that trains reads the other update in a sum of two: set "
                "min_clients=3 or more, or give one node the role key-holder"
            )
