"""What a node checks of the other participants itself, and what it signs for them to check.

Everything here passes through the server, which is why it is signed by those whom it is about
(:mod:`qfl.identity.vouching`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from flwr.app import ConfigRecord, Context, Message

from qfl.clients.sign import server_of
from qfl.crypto import Committee, Header, Member, Roster, Step
from qfl.errors import PayloadError
from qfl.identity.credentials import Credentials, people_from_bytes, people_to_bytes
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.vouching import (
    able,
    check_contributions,
    check_keys,
    check_may_open,
    check_roster,
    statements_from_bytes,
    vouch_for_contribution,
    vouch_for_keys,
    vouch_for_member,
)
from qfl.records import (
    BOX,
    KEY,
    MEMBER,
    PEOPLE,
    ROSTER,
    VOUCHED,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    bytes_record,
    record_bytes,
)

_DIDS = "qfl-dids"
_TRAINS = "qfl-trains"
_HOLDER = "qfl-holder"
KEPT = (_DIDS, _TRAINS, _HOLDER, PEOPLE)
"""What is kept of a run, besides what everybody is told."""


def insist(step: Step, context: Context, credentials: Credentials) -> None:
    """Refuse a step that is weaker than this node's floor, or tells somebody who may not know.

    Raises:
        RefusedError: It is.
    """
    credentials.floor.check(step)
    if step.release == "server":
        credentials.permit(server_of(context), "release")


def acquaint(message: Message, context: Context, credentials: Credentials) -> None:
    """Learn who the other participants are; what is no longer pinned stays unknown.

    Raises:
        RefusedError: Somebody is not pinned, or tells another story than before.
    """
    _recall(context, credentials)
    if PEOPLE not in message.content:
        return
    fresh = people_from_bytes(record_bytes(message.content, PEOPLE))
    for chain in fresh:
        credentials.registry.admit(chain)
    del message.content[PEOPLE]
    held = context.state.config_records.get(PEOPLE)
    before = [] if held is None else people_from_bytes(_bytes(held["chains"]))
    by_first = {chain[0].did: chain for chain in [*before, *fresh]}
    chains = people_to_bytes(by_first.values())
    digest = hashlib.sha256(chains).hexdigest()
    context.state[PEOPLE] = ConfigRecord({"chains": chains, "digest": digest})
    credentials.acquainted.add(digest)


def _recall(context: Context, credentials: Credentials) -> None:
    """Learn what another process of this node has learned; some may count no longer."""
    held = context.state.config_records.get(PEOPLE)
    if held is None or held["digest"] in credentials.acquainted:
        return
    for chain in people_from_bytes(_bytes(held["chains"])):
        with suppress(RefusedError):
            credentials.registry.admit(chain)
    credentials.acquainted.add(str(held["digest"]))


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def check_told(step: Step, message: Message, context: Context, credentials: Credentials) -> None:
    """Check what everybody is told before it is kept.

    Raises:
        RefusedError: A member or a key of the run is not vouched for by somebody who may be it.
    """
    acquaint(message, context, credentials)
    if (told := _fresh(ROSTER, message, context)) is not None:
        roster = Roster.from_bytes(told)
        dids = check_roster(roster, _members(message, context), step, credentials)
        context.state[_DIDS] = ConfigRecord({"names": list(dids), "dids": list(dids.values())})
    public, box = (_fresh(name, message, context) for name in (KEY, BOX))
    if public is None and box is None:
        return
    if public is None:
        public = record_bytes(context.state, KEY)
    if step.trust == "committee":
        _check_committee(public, message, context, credentials)
    if step.trust != "committee" or box is not None:
        holder = message.content if VOUCHED_KEYS in message.content else context.state
        if VOUCHED_KEYS not in holder:
            raise RefusedError(
                Refusal.NOT_SIGNED,
                f"the server sent keys of run {step.run} that nobody vouches for",
            )
        vouched = record_bytes(holder, VOUCHED_KEYS)
        did = check_keys(public, box or b"", vouched, step, credentials)
        context.state[_HOLDER] = ConfigRecord({"did": did})


def _fresh(name: str, message: Message, context: Context) -> bytes | None:
    """What a message tells, unless it was told already."""
    if name not in message.content:
        return None
    told = record_bytes(message.content, name)
    if name in context.state and record_bytes(context.state, name) == told:
        return None
    return told


def check_still(step: Step, context: Context, credentials: Credentials) -> None:
    """Make sure that who was relied on at the beginning may be relied on still.

    Raises:
        RefusedError: Whoever made the keys was revoked, has expired or may not open any more; so
            may members of the committee, or under masks anybody.
    """
    registry = credentials.registry
    held = context.state.config_records.get(_HOLDER)
    if held is not None:
        check_may_open(registry.present(str(held["did"])), credentials)
    dids = _dids_of(context)
    trains = able(dids, "train", credentials)
    gone = [did for name, did in dids.items() if name not in trains]
    if step.scheme == "masking" and gone:
        raise RefusedError(
            Refusal.PERMISSION,
            f"{gone[0]} may not train, or no longer, and everybody masks with it in run "
            f"{step.run}: start another without it",
        )
    if step.trust == "committee" and KEY in context.state:
        for name in Committee.from_bytes(record_bytes(context.state, KEY)).names:
            check_may_open(registry.present(dids[name]), credentials)
    context.state[_TRAINS] = ConfigRecord({"names": trains})


def contributors(roster: Roster, context: Context) -> Roster:
    """Those of a roster who may contribute; all of it where nobody proves who it is."""
    held = context.state.config_records.get(_TRAINS)
    if held is None:
        return roster
    names = held["names"]
    assert isinstance(names, list)
    return Roster(roster.member(str(name)) for name in names)


def _dids_of(context: Context) -> dict[str, str]:
    """Who stands behind each name on the run's roster, as it was checked."""
    held = context.state.config_records.get(_DIDS)
    if held is None:
        return {}
    names, dids = held["names"], held["dids"]
    assert isinstance(names, list) and isinstance(dids, list)
    return dict(zip(map(str, names), map(str, dids), strict=True))


def _members(message: Message, context: Context) -> list[bytes]:
    held = message.content if VOUCHED_MEMBERS in message.content else context.state
    if VOUCHED_MEMBERS not in held:
        return []
    return statements_from_bytes(record_bytes(held, VOUCHED_MEMBERS))


def _check_committee(
    public: bytes, message: Message, context: Context, credentials: Credentials
) -> None:
    """A committee is made of members of the run who may open."""
    dids, committee = _dids_of(context), Committee.from_bytes(public)
    told = message.content if ROSTER in message.content else context.state
    roster = Roster.from_bytes(record_bytes(told, ROSTER)) if dids else Roster([])
    for name in committee.names:
        if name not in dids:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER,
                f"the server named {name} as a member of the committee, which is not on the roster",
            )
        if roster.member(name) != committee.roster.member(name):
            raise RefusedError(
                Refusal.KEY, f"the server named {name} as a member of the committee with other keys"
            )
        check_may_open(dids[name], credentials)


def sign_member(step: Step, message: Message, credentials: Credentials) -> None:
    """Vouch for the keys of the run in an answer, where it announces any."""
    if MEMBER in message.content:
        member = Member.from_bytes(record_bytes(message.content, MEMBER))
        vouched = vouch_for_member(member, step, credentials)
        message.content[VOUCHED_MEMBERS] = bytes_record(vouched, "statement")


def sign_keys(step: Step, message: Message, context: Context, credentials: Credentials) -> None:
    """Vouch for the keys in an answer, which this node made."""
    told = message.content if KEY in message.content else context.state
    public = record_bytes(told, KEY)
    box = record_bytes(message.content, BOX) if BOX in message.content else b""
    vouched = vouch_for_keys(public, box, step, credentials)
    message.content[VOUCHED_KEYS] = bytes_record(vouched, "statement")


def sign_contribution(
    header: Header, body: bytes, message: Message, credentials: Credentials
) -> None:
    """Vouch for the contribution in an answer."""
    vouched = vouch_for_contribution(header, body, credentials)
    message.content[VOUCHED] = bytes_record(vouched, "statement")


def check_contributors(
    header: Header, message: Message, least: int, credentials: Credentials
) -> list[str]:
    """As who opens, see who contributed.

    Raises:
        RefusedError: Too few did, or somebody who may not.
    """
    check_may_open(credentials.did, credentials)
    try:
        statements = statements_from_bytes(record_bytes(message.content, VOUCHED))
    except PayloadError:
        statements = []
    return check_contributions(header, statements, least, credentials)
