"""Envelopes: what arrives, and every refusal by its name."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.errors import PayloadError
from qfl.identity.canonical import encode
from qfl.identity.description import Description
from qfl.identity.envelope import HEAD, MOST_RECEIVERS, Envelope, Expected, Front, Place
from qfl.identity.identity import DAY, Identity
from qfl.identity.opening import open_envelope
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.revocation import Revoked, revoke
from qfl.identity.rotation import rotate
from qfl.identity.sending import seal_envelope
from qfl.identity.signed import wrap
from qfl.identity.streaming import CHUNK

NOW = 1_800_000_000
OPERATOR = Identity.create(["operator"], now=NOW)
NODE, OTHER, STRANGER = (Identity.create(["client"], now=NOW) for _ in range(3))
SERVER, HOLDER = (Identity.create([role], now=NOW) for role in ("server", "key_holder"))
PLACE = Place("run-7", 3, "train", attempt=1, scheme="hybrid", key_id="k1")
EXPECTED = Expected(PLACE, role="client")
PEOPLE = (OPERATOR, NODE, OTHER, SERVER, HOLDER)


def registry(*revoked: Revoked) -> Registry:
    """Everybody but the stranger."""
    made = Registry({one.did: one.description.roles for one in PEOPLE}, operator=OPERATOR.did)
    for one in PEOPLE:
        made.admit([one.description])
    made.update(revoke(OPERATOR, None, revoked, now=NOW), NOW)
    return made


REGISTRY = registry()


def opened(
    data: bytes,
    expected: Expected = EXPECTED,
    *,
    known: Registry = REGISTRY,
    now: float = NOW,
    by: Identity = SERVER,
    guard: ReplayGuard | None = None,
) -> tuple[Envelope, bytes]:
    return open_envelope(data, expected, known, now, identity=by, guard=guard or ReplayGuard())


def reason(data: bytes, expected: Expected = EXPECTED, **how: Any) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        opened(data, expected, **how)
    return caught.value.reason


def sent(
    sender: Identity = NODE,
    place: Place = PLACE,
    to: tuple[Description, ...] = (SERVER.description,),
    *,
    sealed: bool = True,
) -> bytes:
    return seal_envelope(b"update", sender, place, to, sealed=sealed)


MESSAGE = sent()


@settings(max_examples=40)
@given(st.binary(max_size=500), st.booleans(), st.integers(0, 2**53), st.text(max_size=20))
def test_what_was_sent_arrives(payload: bytes, sealed: bool, number: int, text: str) -> None:
    place = Place(text, number, text, number, text, text)
    data = seal_envelope(payload, NODE, place, [SERVER.description], sealed=sealed)
    head, found = opened(data, Expected(place, role="client", sender=NODE.did, sealed=sealed))
    assert found == payload
    assert (head.sender, head.receivers, head.place) == (NODE.did, (SERVER.did,), place)
    assert (head.length, head.digest) == (len(payload), hashlib.sha256(payload).digest())
    assert (len(head.id), head.sealed) == (16, sealed)
    # Shorter ones may be there by chance, or as a part of the front.
    assert (payload in data) is (not sealed) or len(payload) < 16


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("sealed", [True, False])
def test_any_length_arrives(size: int, sealed: bool) -> None:
    payload = hashlib.shake_256(b"x").digest(size)
    data = seal_envelope(payload, NODE, PLACE, [SERVER.description], sealed=sealed)
    assert opened(data, replace(EXPECTED, sealed=sealed))[1] == payload


def test_several_receivers_open_the_same_message() -> None:
    data = sent(to=(SERVER.description, HOLDER.description, OTHER.description))
    for by in (SERVER, HOLDER, OTHER):
        head, payload = opened(data, by=by)
        assert payload == b"update"
        assert head.receivers == tuple(sorted([SERVER.did, HOLDER.did, OTHER.did]))
    assert reason(data, by=NODE) is Refusal.RECEIVER


def test_a_message_to_everybody_is_read_by_everybody() -> None:
    data = sent(to=(), sealed=False)
    for by in PEOPLE:
        assert opened(data, replace(EXPECTED, sealed=False), by=by)[1] == b"update"


def test_who_sent_is_not_seen_from_outside_what_is_sealed() -> None:
    assert NODE.did.encode() not in MESSAGE
    assert b"run-7" not in MESSAGE
    assert SERVER.did.encode() in MESSAGE
    assert sent() != sent()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"run": "run-8"}, Refusal.RUN),
        ({"round": 4}, Refusal.ROUND),
        ({"step": "evaluate"}, Refusal.STEP),
        ({"attempt": 0}, Refusal.ATTEMPT),
        ({"scheme": "ckks"}, Refusal.SCHEME),
        ({"key_id": "k2"}, Refusal.KEY),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_message_from_elsewhere_is_refused(
    change: dict[str, Any], expected: Refusal, sealed: bool
) -> None:
    data = sent(place=replace(PLACE, **change), sealed=sealed)
    waiting = replace(EXPECTED, sealed=sealed)
    assert reason(data, waiting) is expected
    (name, theirs) = next(iter(change.items()))
    with pytest.raises(RefusedError, match=f"it has {name}={theirs!r}, this step expects"):
        opened(data, waiting)
    assert opened(data, replace(waiting, place=replace(PLACE, **change)))


def test_unknown_and_wrong_senders_are_refused() -> None:
    assert reason(sent(STRANGER)) is Refusal.UNKNOWN_SENDER
    assert reason(sent(OTHER), replace(EXPECTED, sender=NODE.did)) is Refusal.SENDER
    assert reason(sent(HOLDER)) is Refusal.ROLE
    assert reason(MESSAGE, replace(EXPECTED, role="server")) is Refusal.ROLE
    assert opened(sent(HOLDER), replace(EXPECTED, role=""))


def test_revoked_expired_and_replaced_senders_are_refused() -> None:
    assert reason(MESSAGE, known=registry(Revoked(NODE.did, NOW, "lost"))) is Refusal.REVOKED
    assert reason(MESSAGE, now=NOW - DAY) is Refusal.NOT_YET_VALID
    assert reason(MESSAGE, now=NOW + 31 * DAY) is Refusal.STALE
    alone = Registry({NODE.did: ["client"]})
    alone.admit([NODE.description])
    assert reason(MESSAGE, known=alone, now=NOW + 365 * DAY) is Refusal.EXPIRED
    fresh = rotate(NODE, now=NOW)
    known = registry()
    known.admit([NODE.description, fresh.description])
    assert reason(MESSAGE, known=known) is Refusal.SUPERSEDED
    assert opened(sent(fresh), known=known)[0].sender == fresh.did


def test_a_message_for_somebody_else_is_refused() -> None:
    for sealed in (True, False):
        data = sent(to=(HOLDER.description,), sealed=sealed)
        assert reason(data, replace(EXPECTED, sealed=sealed)) is Refusal.RECEIVER


def test_a_message_is_opened_once() -> None:
    guard = ReplayGuard()
    opened(MESSAGE, guard=guard)
    assert reason(MESSAGE, guard=guard) is Refusal.REPLAYED
    opened(sent(), guard=guard)
    assert opened(MESSAGE)  # another receiver's memory


def test_what_was_refused_can_still_arrive_whole() -> None:
    # Or somebody could cut a message off on its way and so keep the whole one out.
    guard = ReplayGuard()
    assert reason(MESSAGE[:-1], guard=guard) is Refusal.DAMAGED
    assert reason(MESSAGE, now=NOW - DAY, guard=guard) is Refusal.NOT_YET_VALID
    assert opened(MESSAGE, guard=guard)[1] == b"update"


def test_a_guard_keeps_runs_apart_and_has_an_end() -> None:
    guard = ReplayGuard(most=2)
    for name in (b"1", b"2"):
        guard.add("a", "x", name)
    for again in (b"1", b"3"):
        with pytest.raises(RefusedError) as caught:
            guard.add("a", "x", again)
        assert caught.value.reason is Refusal.REPLAYED
    guard.add("b", "x", b"1")
    guard.forget("a")
    guard.forget("nothing")
    guard.add("a", "x", b"1")
    guard.add("a", "y", b"1")


def test_open_messages_are_refused_where_sealed_ones_are_expected() -> None:
    data = sent(sealed=False)
    assert reason(data) is Refusal.NOT_SEALED
    assert opened(data, replace(EXPECTED, sealed=False))[1] == b"update"
    assert opened(MESSAGE, replace(EXPECTED, sealed=False))[1] == b"update"  # sealed is more


def forged(signer: Identity, signatures: int = 1, context: bytes = HEAD.context) -> bytes:
    """A message that names the node as its sender, signed by somebody, or not at all."""
    head = Envelope(
        id=bytes(16),
        sender=NODE.did,
        receivers=(),
        place=PLACE,
        sealed=False,
        length=6,
        digest=hashlib.sha256(b"update").digest(),
    )
    body = head.to_body()
    signed = wrap(HEAD, body, (signer.sign(body, context),) * signatures)
    return Front((), (), signed).to_bytes() + b"update"


def test_another_keys_signature_and_none_are_told_apart() -> None:
    waiting = replace(EXPECTED, sealed=False)
    assert opened(forged(NODE), waiting)[0].sender == NODE.did
    assert reason(forged(OTHER), waiting) is Refusal.SIGNATURE
    assert reason(forged(STRANGER), waiting) is Refusal.SIGNATURE
    assert reason(forged(NODE, context=b"qfl description 1"), waiting) is Refusal.SIGNATURE
    assert reason(forged(NODE, signatures=0), waiting) is Refusal.NOT_SIGNED
    assert reason(forged(NODE, signatures=2), waiting) is Refusal.DAMAGED


def test_a_forged_name_is_not_told_as_a_revoked_sender() -> None:
    waiting = replace(EXPECTED, sealed=False)
    known = registry(Revoked(NODE.did, NOW, "lost"))
    assert reason(forged(OTHER), waiting, known=known) is Refusal.SIGNATURE
    assert reason(forged(NODE), waiting, known=known) is Refusal.REVOKED


def test_damage_is_refused() -> None:
    for data in (b"", b"qfle", b"qfl1" + MESSAGE[4:], MESSAGE + b"x", MESSAGE[:-1], MESSAGE[:9]):
        assert reason(data) is Refusal.DAMAGED
    with pytest.raises(RefusedError, match="claims a front of 4294967295 bytes"):
        opened(b"qfle\xff\xff\xff\xff" + MESSAGE[8:])
    assert reason(MESSAGE.replace(b"gversion\x01", b"gversion\x02")) is Refusal.VERSION


def test_receivers_and_keys_that_do_not_fit_are_refused() -> None:
    front = Front.from_bytes(MESSAGE[8 : -6 - 16])
    both = tuple(sorted([SERVER.did, HOLDER.did]))
    outer = {"version": 1, "receivers": [SERVER.did], "keys": list(front.keys), "head": front.head}
    for change, expected in (
        ({"receivers": list(both)}, Refusal.RECEIVER),
        ({"receivers": []}, Refusal.RECEIVER),
        ({"keys": [*front.keys] * 2}, Refusal.RECEIVER),
        ({"receivers": list(reversed(both)), "keys": [*front.keys] * 2}, Refusal.RECEIVER),
        ({"receivers": [SERVER.did] * 2, "keys": [*front.keys] * 2}, Refusal.RECEIVER),
        ({"receivers": ["somebody"]}, Refusal.DID),
        ({"keys": []}, Refusal.NOT_SEALED),
        ({"keys": [b""]}, Refusal.DAMAGED),
        ({"head": b""}, Refusal.DAMAGED),
    ):
        changed = encode(outer | change)
        data = b"qfle" + len(changed).to_bytes(4, "big") + changed + MESSAGE[-22:]
        assert reason(data) is expected


def test_what_cannot_be_sent() -> None:
    with pytest.raises(PayloadError, match="name its receivers"):
        sent(to=())
    with pytest.raises(PayloadError, match="each once"):
        sent(to=(SERVER.description,) * 2)
    keys = [n.to_bytes(2, "big") for n in range(MOST_RECEIVERS + 1)]
    many = [replace(SERVER.description, public=key) for key in keys]
    with pytest.raises(PayloadError, match="at most 256"):
        sent(to=tuple(many))
    for change in ({"run": "x" * 257}, {"step": "\ud800"}, {"round": -1}, {"attempt": 2**53 + 1}):
        with pytest.raises(PayloadError):
            replace(PLACE, **change)
    for change in ({"run": 7}, {"round": 1.0}, {"round": True}):
        with pytest.raises(PayloadError):
            replace(PLACE, **change)
