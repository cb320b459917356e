"""A run before its first round: who is there, keys, counts, and what a person should know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flwr.app import ConfigRecord

from qfl.crypto import Layout
from qfl.errors import ConfigError, FederationError
from qfl.records import CONFIG
from qfl.strategies.events import Event, Joined, NotJoined, SetupFinished
from qfl.strategies.privacy import Privacy, promise, settle
from qfl.strategies.selection import SelectAll, SelectBySize, Selection
from qfl.strategies.session import Session
from qfl.strategies.sums import Sums


def prepare_sums(
    session: Session,
    length: int,
    metrics: int,
    numbers: int,
    config: ConfigRecord | None,
    privacy: Privacy,
    rounds: int,
    tell: Callable[[Event], None] = lambda event: None,
) -> Sums:
    """Meet the clients, have keys made, count examples.

    Args:
        session: A new one.
        length: Coordinates of an update.
        metrics: Most metrics that travel with an update or an evaluation.
        numbers: Most numbers that :meth:`Sums.numbers` will be asked for.
        config: Goes to clients with the questions asked here.
        privacy: What is promised to clients.
        rounds: Rounds that the promise has to last for.
        tell: Called with who takes part, and every sum that was opened.

    Raises:
        FederationError: Somebody is missing or refuses, or there are no examples.
    """
    sums = Sums(session, length, tell)
    try:
        session.meet()
    finally:
        for event in _participants(session):
            tell(event)
    settle(session, privacy, length, rounds)
    limbs = session.sums.limbs
    longest = max(sums.update_length + 1 + metrics * limbs, numbers * limbs, limbs)
    if sums.level() is not None:
        longest = sums.update_length + 1  # nothing else is summed, and whoever adds noise checks it
    sums.set_up(longest)
    if session.aggregation.weighting == "examples":
        asked = {CONFIG: config or ConfigRecord()}
        session.examples = int(sums.numbers("query.count", "count", 1, asked)[0])
        if session.examples < 1:
            raise FederationError("the clients hold no examples at all")
    return sums


def _participants(session: Session) -> Iterator[Event]:
    """Who takes part, where they prove who they are, and who does not."""
    if session.signed:
        registry = session.signed.credentials.registry
        for node in sorted({*session.clients, *session.holders}):
            did, first = session.signed.did_of(node), session.signed.first_of(node)
            name = registry.policy.name_of(first) if registry.policy else first
            parts = {"client": session.clients, "key-holder": session.holders}
            roles = tuple(role for role, nodes in parts.items() if node in nodes)
            yield Joined(node, did, name, roles)
    for node, why in session.left_out.items():
        yield NotJoined(node, why)


def check_identities(selection: Selection) -> None:
    """Refuse what clients with identities do not answer.

    Raises:
        ConfigError: Clients are selected by what they would have to tell in the clear.
    """
    if isinstance(selection, SelectBySize):
        raise ConfigError(
            "selection by size asks every client for its number of examples in the clear, which "
            "none with identities tells: select all, a fraction or a count"
        )


def describe(sums: Sums, layout: Layout, selection: Selection) -> SetupFinished:
    """What holds in the run."""
    session, made = sums.session, sums.session.aggregation
    return SetupFinished(
        clients=len(session.clients),
        scheme=made.scheme,
        trust=made.trust,
        assumption=made.assumption_with(identities=session.signed is not None),
        opened_by=sums.opener.opened_by,
        key_id=session.key_id,
        examples=session.examples,
        parameters=layout.length,
        notes=tuple(_notes(sums, layout, selection)),
        proven=len({*session.clients, *session.holders}) if session.signed else 0,
        in_clear=_in_clear(sums, layout),
    )


def _in_clear(sums: Sums, layout: Layout) -> int:
    if sums.session.aggregation.scheme == "plain":
        return layout.length
    return 0 if sums.mask is None else int((~sums.mask).sum())


def _notes(sums: Sums, layout: Layout, selection: Selection) -> Iterator[str]:
    """What is left out, and what this combination of settings lets somebody learn."""
    session = sums.session
    made = session.aggregation
    for node, problem in session.left_out.items():
        yield f"left out: node {node}: {problem}"
    if session.terms is not None:
        yield promise(session.terms, made, sums.opener.opened_by)
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
