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
    if (roster := _fresh(ROSTER, message, context)) is not None:
        check_roster(Roster.from_bytes(roster), _members(message, context), step, credentials)
    public, box = (_fresh(name, message, context) for name in (KEY, BOX))
    if public is None and box is None:
        return
    if public is None:
        public = record_bytes(context.state, KEY)
    if step.trust == "committee":
        _check_committee(public, step, message, context, credentials)
    if step.trust != "committee" or box is not None:
        holder = message.content if VOUCHED_KEYS in message.content else context.state
        if VOUCHED_KEYS not in holder:
            raise RefusedError(
                Refusal.NOT_SIGNED,
                f"the server sent keys of run {step.run} that nobody vouches for",
            )
        vouched = record_bytes(holder, VOUCHED_KEYS)
        check_keys(public, box or b"", vouched, step, credentials)


def _fresh(name: str, message: Message, context: Context) -> bytes | None:
    """What a message tells, unless it was told already."""
    if name not in message.content:
        return None
    told = record_bytes(message.content, name)
    if name in context.state and record_bytes(context.state, name) == told:
        return None
    return told


def _members(message: Message, context: Context) -> list[bytes]:
    held = message.content if VOUCHED_MEMBERS in message.content else context.state
    if VOUCHED_MEMBERS not in held:
        return []
    return statements_from_bytes(record_bytes(held, VOUCHED_MEMBERS))


def _check_committee(
    public: bytes, step: Step, message: Message, context: Context, credentials: Credentials
) -> None:
    """A committee is made of members of the run who may open."""
    told = message.content if ROSTER in message.content else context.state
    roster = Roster.from_bytes(record_bytes(told, ROSTER))
    dids = check_roster(roster, _members(message, context), step, credentials)
    for name in Committee.from_bytes(public).names:
        if name not in dids:
            raise RefusedError(
                Refusal.UNKNOWN_SENDER,
                f"the server named {name} as a member of the committee, which is not on the roster",
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


def opener_counts(step: Step) -> bool:
    """Whether who opens cannot tell contributors from the sum itself, so that they sign for it."""
    return step.scheme in ("ckks", "packed")
