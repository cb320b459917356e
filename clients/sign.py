"""The mod that signs and seals what leaves a client, and takes nothing that is not signed.

It stands first, around all other mods and any ClientApp. A server introduces itself before
anything else; from then on every message between the two is an envelope
(:mod:`qfl.enveloped`).
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl.clients.signing_state import Conversation
from qfl.enveloped import (
    CHAIN,
    ENVELOPE,
    INTRODUCTION,
    OPERATOR,
    POLICY,
    REVOCATIONS,
    Enclosed,
    envelope_of,
    place_of,
)
from qfl.errors import QflError
from qfl.identity.countersigning import countersign
from qfl.identity.credentials import Credentials, chain_from_bytes, chain_to_bytes
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.policy import Policy
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.revocation import RevocationList
from qfl.records import bytes_record, copy_records, record_bytes

Next = Callable[[Message, Context], Message]
Source = Credentials | Callable[[Context], Credentials]


def credentials_of(source: Source, context: Context) -> Credentials:
    """A node's credentials, from themselves or from a function of its context."""
    return source if isinstance(source, Credentials) else source(context)


class SignMod:
    """Verifies what comes and signs what leaves.

    Args:
        credentials: Who this node is and whom it knows; or a function of its context, for several
            nodes in one process.

    Example:
        >>> from flwr.clientapp import ClientApp
        >>> from qfl.clients import ProtectMod
        >>> from qfl.identity import Credentials, Identity, Registry
        >>> own = Credentials.of(Identity.create(["client"]), Registry({}))
        >>> app = ClientApp(mods=[SignMod(own), ProtectMod(credentials=own)])
    """

    def __init__(self, credentials: Source) -> None:
        self._source = credentials

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Handle one message.

        Raises:
            RefusedError: ``reason`` says why it is not what an enrolled server sent to this node
                now. What goes wrong later is answered by a signed refusal instead.
        """
        own = credentials_of(self._source, context)
        if CHAIN in message.content:
            return self._introduce(message, context, own)
        talk, head, asked = _open(message, context, own)
        countersigned = None
        if asked.head is not None:
            talk = talk.shown(asked.head)
            countersigned = countersign(asked.head, own.did, own.identity.signing)
        message.content = asked.content
        content, refused = _answer(message, context, call_next)
        talk.keep(context)
        answer = Enclosed(
            kind=asked.kind,
            node=context.node_id,
            session=talk.session,
            content=content,
            request=head.id,
            refused=refused,
            countersignature=countersigned,
        )
        sealed = _seal(answer, head.place, talk.server, own)
        return Message(RecordDict({ENVELOPE: sealed}), reply_to=message)

    def _introduce(self, message: Message, context: Context, own: Credentials) -> Message:
        """Learn who the server is, and say who this node is."""
        _acquaint(message.content, own)
        head, payload = own.open(envelope_of(message.content), Expected(None, sealed=False))
        own.permit(head.sender, "serve")
        asked = Enclosed.from_bytes(payload)
        _check_addressed(asked, message, context)
        if head.place != Place(asked.session, 0, INTRODUCTION):
            raise RefusedError(Refusal.STEP, "a message came as an introduction, and is none")
        _check_newest(asked.content, own)
        talk = Conversation.of(context).entered(asked.session, head.sender)
        talk.heard(asked.number).keep(context)
        for name in (CHAIN, OPERATOR, POLICY, REVOCATIONS):
            context.state.pop(name, None)
            if name in message.content:
                context.state[name] = message.content[name]
        answer = Enclosed(asked.kind, context.node_id, asked.session, RecordDict(), request=head.id)
        content = RecordDict(
            {
                ENVELOPE: _seal(answer, head.place, head.sender, own),
                CHAIN: bytes_record(chain_to_bytes(own.chain), "chain"),
            }
        )
        return Message(content, reply_to=message)


def server_of(context: Context) -> str:
    """The identifier of the server that this node talks to; empty without a :class:`SignMod`."""
    return Conversation.of(context).server


def _open(
    message: Message, context: Context, own: Credentials
) -> tuple[Conversation, Envelope, Enclosed]:
    talk = Conversation.of(context)
    if not talk.session:
        raise RefusedError(
            Refusal.UNKNOWN_SENDER, "a message came from a server that did not introduce itself"
        )
    if not own.registry.knows(talk.server):
        # Another process of this node met the server.
        _acquaint(context.state, own)
    head, payload = own.open(envelope_of(message.content), Expected(None, sender=talk.server))
    own.permit(head.sender, "serve")
    asked = Enclosed.from_bytes(payload)
    _check_addressed(asked, message, context)
    if asked.session != talk.session:
        raise RefusedError(
            Refusal.RUN,
            f"a message belongs to session {asked.session!a} of the server; this node is in "
            f"session {talk.session!a}",
        )
    head.place.check(place_of(asked.content, asked.session, asked.kind))
    return talk.heard(asked.number), head, asked


def _answer(message: Message, context: Context, call_next: Next) -> tuple[RecordDict, str]:
    """What the node answers, or why it does nothing."""
    before = copy_records(context.state)
    try:
        reply = call_next(message, context)
    except Exception as error:
        # As if the message had not come, but for the note that it did.
        context.state = before
        said = str(error) if isinstance(error, QflError) else f"{type(error).__name__}: {error}"
        return RecordDict(), said or type(error).__name__
    if reply.has_error():
        return RecordDict(), str(reply.error.reason or f"error code {reply.error.code}")
    return reply.content, ""


def _check_addressed(asked: Enclosed, message: Message, context: Context) -> None:
    """Flower's own words on a message must be those that were signed."""
    if asked.kind != message.metadata.message_type:
        raise RefusedError(
            Refusal.TYPE,
            f"a message came as '{message.metadata.message_type}', and its sender signed "
            f"'{asked.kind}'",
        )
    if asked.node != context.node_id:
        raise RefusedError(
            Refusal.NODE,
            f"a message for node {asked.node} came to node {context.node_id}: somebody sent it on",
        )
    if asked.request or asked.refused or asked.countersignature:
        raise RefusedError(Refusal.REQUEST, "an answer came where a request belongs")


def _acquaint(content: RecordDict, own: Credentials) -> None:
    """Learn who the server is, and the operator's newer words, which it may only pass on."""
    registry, now = own.registry, own.now()
    if OPERATOR in content:
        registry.admit(chain_from_bytes(record_bytes(content, OPERATOR)))
    if REVOCATIONS in content:
        fresh = RevocationList.from_bytes(record_bytes(content, REVOCATIONS))
        known = registry.revocations
        if known is None or fresh.sequence >= known.sequence:
            registry.update(fresh, now)
    if POLICY in content:
        policy = Policy.from_bytes(record_bytes(content, POLICY))
        if registry.policy is None or policy.sequence >= registry.policy.sequence:
            registry.enrol(policy, now)
    registry.admit(chain_from_bytes(record_bytes(content, CHAIN)))


def _check_newest(content: RecordDict, own: Credentials) -> None:
    """Make sure that nobody took the operator's words out of an introduction."""
    policy, list_ = own.registry.policy, own.registry.revocations
    known = {POLICY: policy.sequence if policy else 0, REVOCATIONS: list_.sequence if list_ else 0}
    told = content.config_records.get(INTRODUCTION, ConfigRecord())
    for name, sequence in known.items():
        if int(str(told.get(name, 0))) > sequence:
            raise RefusedError(
                Refusal.STALE,
                f"the server knows {name} {told[name]!s} and this node {sequence}: the newer one "
                "was taken out of its introduction",
            )


def _seal(answer: Enclosed, place: Place, server: str, own: Credentials) -> ArrayRecord:
    receiver = own.registry.known(server, own.now())
    _, sealed = own.seal(answer.to_bytes(), place, [receiver])
    return bytes_record(sealed, "envelope")
