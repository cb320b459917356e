"""A server with a valid identity that signs whatever a test likes, and nodes that verify it.

The nodes are real: :class:`SignMod` and :class:`ProtectMod` around an app, each with a registry of
its own. A refusal that a node signed and one that it raised both come out as a ``CryptoError``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from hostile import LENGTH, Node, Records, Server, Vector, opened

from qfl._flower_compat import set_task_identity
from qfl.clients import SignMod
from qfl.crypto import Committee, Member, MemberKeys, Roster, Step, unpack
from qfl.enveloped import (
    CHAIN,
    ENVELOPE,
    INTRODUCTION,
    INTRODUCTION_TYPE,
    POLICY,
    REVOCATIONS,
    Enclosed,
    envelope_of,
    place_of,
)
from qfl.errors import CryptoError
from qfl.federation.simulated_identities import Issued
from qfl.identity.countersigning import Head
from qfl.identity.credentials import Credentials, chain_to_bytes, people_to_bytes
from qfl.identity.envelope import Expected, Place
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.policy import DEFAULT_PERMISSIONS, Enrolled, Policy, sign_policy
from qfl.identity.registry import Registry
from qfl.identity.revocation import RevocationList, Revoked, revoke
from qfl.identity.vouching import statements_to_bytes, vouch_for_member
from qfl.records import (
    BOX,
    KEY,
    MASKED,
    MEMBER,
    PAYLOAD,
    PEOPLE,
    ROSTER,
    STEP,
    VOUCHED,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    bytes_record,
    content_digest,
    copy_records,
    record_bytes,
    step_record,
)

HOLDER, CLIENT, BOTH = ("key_holder",), ("client",), ("client", "key_holder")
DEDICATED = (HOLDER, CLIENT, CLIENT, CLIENT, CLIENT)
EVERYBODY = (BOTH,) * 5
Permissions = Mapping[str, Iterable[str]]


def identity(*roles: str, **options: Any) -> Identity:
    """New keys, of the quickest algorithm."""
    return Identity.create(roles, algorithm="ML-DSA-44", **options)


class SignedNode(Node):
    """One participant with an identity.

    Attributes:
        own: Its credentials; a test may put others in their place, as a restart does.
        server: The server that it is asked by in tests of the round protocol.
    """

    def __init__(self, number: int, own: Credentials, **options: Any) -> None:
        super().__init__(number, credentials=lambda context: self.own, **options)
        self.own, self.signing = own, SignMod(lambda context: self.own)
        self.server: ServerVoice

    def hear(self, content: RecordDict, kind: str = "train") -> RecordDict:
        """What the node answers to a message, envelope and all."""
        set_task_identity(1, 0)
        message = Message(copy_records(content), self.number, kind)
        context = Context(1, self.number, {}, copy_records(self.state), {})
        reply = self.signing(message, context, lambda m, c: self.mod(m, c, self._app))
        self.state = context.state
        return copy_records(reply.content)

    def ask(self, step: Step, records: Records, kind: str = "train") -> RecordDict:
        """The node's answer to one step of its server."""
        content = RecordDict({**records, STEP: step_record(step.to_json())})
        return self.server.ask(self, content, kind)


@dataclass
class ServerVoice:
    """Signs and seals as one identity, in one session.

    Attributes:
        own: The server's credentials.
        session: Text that stands for this conversation; a later one comes after it in order.
        numbers: Of its messages.
    """

    own: Credentials
    session: str = "session-1"
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def introduction(self, node: SignedNode, **changes: Any) -> RecordDict:
        """What a server says first; ``chain``, ``policy`` and the rest replace what is honest."""
        own, registry = self.own, self.own.registry
        number = next(self.numbers)
        asked = Enclosed(INTRODUCTION_TYPE, node.number, self.session, RecordDict(), number)
        place = changes.get("place", Place(self.session, 0, INTRODUCTION))
        _, sealed = own.seal(asked.to_bytes(), place, [], sealed=False)
        content = {
            ENVELOPE: sealed,
            CHAIN: chain_to_bytes(changes.get("chain", own.chain)),
            POLICY: registry.policy.to_bytes() if registry.policy else b"",
            REVOCATIONS: registry.revocations.to_bytes() if registry.revocations else b"",
        }
        content |= {name: made.to_bytes() for name, made in changes.items() if name in content}
        return RecordDict(
            {name: bytes_record(data, "told") for name, data in content.items() if data}
        )

    def introduce(self, node: SignedNode, **changes: Any) -> str:
        """Introduce this server, and learn who the node is."""
        reply = node.hear(self.introduction(node, **changes))
        self.own.registry.admit(node.own.chain)
        head, _ = self.own.open(envelope_of(reply), Expected(Place(self.session, 0, INTRODUCTION)))
        node.server = self
        return head.sender

    def sealed(
        self,
        to: SignedNode,
        content: RecordDict,
        kind: str = "train",
        *,
        place: Place | None = None,
        head: Head | None = None,
        **changes: Any,
    ) -> RecordDict:
        """One message, sealed to a node."""
        place = place or place_of(content, self.session, kind)
        number = next(self.numbers)
        asked = Enclosed(kind, to.number, self.session, content, number, head=head)
        asked = replace(asked, **changes)
        receiver = to.own.identity.description
        _, sealed = self.own.seal(asked.to_bytes(), place, [receiver])
        return RecordDict({ENVELOPE: bytes_record(sealed, "envelope")})

    def ask(self, node: SignedNode, content: RecordDict, kind: str = "train") -> RecordDict:
        """What a node answers.

        Raises:
            CryptoError: It refused.
        """
        reply = node.hear(self.sealed(node, content, kind), kind)
        place = place_of(content, self.session, kind)
        _, payload = self.own.open(envelope_of(reply), Expected(place, sender=node.own.did))
        answer = Enclosed.from_bytes(payload)
        if answer.refused:
            raise CryptoError(answer.refused)
        return answer.content


@dataclass
class Federation:
    """An operator, a server, and nodes that pin the operator alone.

    Attributes:
        operator: Signs policies and revocation lists.
        server: Enrolled as server.
        identities: Enrolled as ``node-0`` and so on.
        issued: The first policy and list.
        floor: Of every node.
    """

    operator: Identity
    server: Identity
    identities: list[Identity]
    issued: Issued
    floor: Floor

    @classmethod
    def of(
        cls,
        roles: Sequence[Sequence[str]] = DEDICATED,
        permissions: Permissions = DEFAULT_PERMISSIONS,
        floor: Floor | None = None,
        others: Mapping[str, Identity] | None = None,
    ) -> Federation:
        """New identities; ``others`` are enrolled besides."""
        operator, server = identity("operator"), identity("server")
        nodes = [identity(*one) for one in roles]
        named = {"operator": operator, "server": server, **(others or {})}
        named |= {f"node-{number}": one for number, one in enumerate(nodes)}
        policy = sign_policy(
            operator,
            "clinics",
            [Enrolled(name, one.did, one.description.roles) for name, one in named.items()],
            permissions,
        )
        issued = Issued(operator, policy, revoke(operator, None))
        return cls(operator, server, nodes, issued, floor or Floor())

    def credentials(self, identity: Identity, floor: Floor | None = None) -> Credentials:
        """Of a member, with a registry of its own."""
        return self.issued.credentials(identity, floor or self.floor)

    def stranger(self, identity: Identity) -> Credentials:
        """Of somebody who knows the federation and is not enrolled."""
        registry = Registry(
            {self.operator.did: ["operator"], identity.did: identity.description.roles},
            self.operator.did,
        )
        registry.admit([self.operator.description])
        registry.update(self.issued.revocations, time.time())
        registry.enrol(self.issued.policy, time.time())
        registry.admit([identity.description])
        return Credentials.of(identity, registry)

    def voice(self, session: str = "session-1") -> ServerVoice:
        """The enrolled server."""
        return ServerVoice(self.credentials(self.server, Floor()), session)

    def nodes(self, **options: Any) -> list[SignedNode]:
        """All of them; those who hold keys first, as in :mod:`hostile`."""
        return [
            SignedNode(number, self.credentials(one), **options)
            for number, one in enumerate(self.identities, 1)
        ]

    def revoking(self, *dids: str, before: RevocationList | None = None) -> RevocationList:
        """The next list, with these on it."""
        entries = [Revoked(did, int(time.time()), "compromised") for did in dids]
        return revoke(self.operator, before or self.issued.revocations, entries)

    def without(self, *dids: str, permissions: Permissions | None = None) -> Policy:
        """The next policy, without these members."""
        policy = self.issued.policy
        members = [one for one in policy.members if one.did not in dids]
        granted = policy.permissions if permissions is None else permissions
        return sign_policy(self.operator, "clinics", members, granted, before=policy)


def made_up(step: Step) -> tuple[Member, bytes]:
    """A member that a server made up, and its proof: signed by an identity that nobody enrolled."""
    unknown = identity("client")
    registry = Registry({unknown.did: ["client"]})
    registry.admit([unknown.description])
    member = MemberKeys().member
    return member, vouch_for_member(member, step, Credentials.of(unknown, registry))


@dataclass
class SignedServer(Server):
    """A run over signed messages; what the server passes on it may change.

    Attributes:
        federation: Everybody's identities.
        voice: Speaks for the server.
        statements: Of members, by their names on the roster.
        signed: What contributors signed, by contribution.
        sending: What goes with the next opening in place of those.
    """

    federation: Federation = field(default_factory=Federation.of)
    voice: ServerVoice = field(init=False)
    statements: dict[str, bytes] = field(default_factory=dict)
    signed: dict[bytes, bytes] = field(default_factory=dict)
    sending: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.voice = self.federation.voice()

    @classmethod
    def run(
        cls,
        scheme: str,
        trust: str,
        release: str = "server",
        *,
        roles: Sequence[Sequence[str]] | None = None,
        floor: Floor | None = None,
        permissions: Permissions = DEFAULT_PERMISSIONS,
        until: str = "keys",
        **terms: Any,
    ) -> SignedServer:
        """A run that is set up honestly up to introductions, members or keys."""
        default = {"key_holder": DEDICATED, "none": (CLIENT,) * 5}.get(trust, EVERYBODY)
        federation = Federation.of(roles or default, permissions, floor)
        asked = {"scheme": scheme, "trust": trust, "release": release, **terms}
        server = cls(asked, federation.nodes(), federation=federation)
        for node in server.nodes:
            server.voice.introduce(node)
        if until != "introductions":
            server.meet()
        if until == "keys":
            server.set_up()
        return server

    def meet(self) -> None:
        """Hello to everybody; the roster with its proofs, and who everybody is."""
        members = []
        for node in self.nodes:
            reply = node.ask(self.step("hello"), {})
            if MEMBER in reply:
                members.append(Member.from_bytes(record_bytes(reply, MEMBER)))
                node.name = members[-1].name
                self.statements[node.name] = record_bytes(reply, VOUCHED_MEMBERS)
        self.told[PEOPLE] = self.people()
        if members:
            self.tell_roster(members)

    def people(self, *more: Sequence[Any]) -> Any:
        """Descriptions of the server, all nodes and whoever else."""
        chains = [self.voice.own.chain, *(node.own.chain for node in self.nodes), *more]
        return bytes_record(people_to_bytes(chains), "told")

    def tell_roster(self, members: Iterable[Member]) -> None:
        """A roster, with what the server has of proofs, in order."""
        self.roster = Roster(members)
        proofs = [self.statements[name] for name in self.roster.names if name in self.statements]
        self.told[ROSTER] = bytes_record(self.roster.to_bytes(), "told")
        self.told[VOUCHED_MEMBERS] = bytes_record(statements_to_bytes(proofs), "told")

    def set_up(self) -> None:
        """Keys, vouched for by who made them."""
        if self.terms["scheme"] == "masking":
            return
        if self.terms["trust"] == "committee":
            members = Roster(self.roster.member(node.name) for node in self.nodes[:3])
            self.public = Committee(members, 2).to_bytes()
            self.told[KEY] = bytes_record(self.public, "told")
            return
        reply = self.holder.ask(self.step("keygen"), self.told)
        self.public = record_bytes(reply, KEY)
        self.told |= {name: reply[name] for name in (KEY, BOX, VOUCHED_KEYS) if name in reply}
        if self.terms["release"] == "clients":
            self.locked = self.adopt(self.holder, np.zeros(LENGTH))

    def train(self, node: Node, round: int = 1, **changes: Any) -> bytes:
        """A client's contribution; what it signed is kept."""
        asked = self.step("train", round, **changes)
        reply = node.ask(asked, self.model | self.told)
        payload = record_bytes(reply, PAYLOAD)
        if VOUCHED in reply:
            self.signed[payload] = record_bytes(reply, VOUCHED)
        return payload

    def proofs(self, payloads: Iterable[bytes]) -> list[bytes]:
        """What those signed who sent these."""
        return [self.signed[payload] for payload in payloads]

    def bodies(self, round: int = 1, who: Iterable[int] = (1, 2, 3, 4)) -> list[bytes]:
        """Contributions of some clients; their proofs go with the next opening."""
        payloads = [self.train(self.nodes[i], round) for i in who]
        self.sending = [self.signed[one] for one in payloads if one in self.signed]
        return [unpack(one)[1] for one in payloads]

    def open(
        self, payload: bytes, round: int = 1, masked: bytes | None = None, **changes: Any
    ) -> Vector:
        """What the key holder answers."""
        records: Records = {PAYLOAD: bytes_record(payload, "sum")}
        if self.sending:
            records[VOUCHED] = bytes_record(statements_to_bytes(self.sending), "statements")
        if masked is not None:
            records[MASKED] = bytes_record(masked, "sum")
        said = {"label": "train", "content": content_digest(self.model), **changes}
        step = self.step("open", round, **said)
        return opened(self.holder.ask(step, self.told | records))


def refusal(act: Callable[[], object]) -> str:
    """What is said when something is refused; empty where it is not."""
    try:
        act()
    except CryptoError as error:
        return str(error)
    return ""
