"""What a receiver, an insider or whoever carries messages could try."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qfl.crypto.sealing import seal
from qfl.identity.description import Description
from qfl.identity.envelope import HEAD, Envelope, Expected, Front, Place, key_info
from qfl.identity.identity import Identity
from qfl.identity.opening import open_envelope
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.sending import NONCE, content_key, head_key, outside, seal_envelope
from qfl.identity.signed import unwrap, wrap
from qfl.identity.streaming import CHUNK, open_chunks, seal_chunks, sealed_length

NOW = 1_800_000_000
NODE, INSIDER, SERVER, HOLDER = (Identity.create(["client", "server"], now=NOW) for _ in range(4))
PLACE = Place("run", 1, "train")
EXPECTED = Expected(PLACE)
PAYLOAD = hashlib.shake_256(b"payload").digest(3 * CHUNK + 5)
REGISTRY = Registry({one.did: ["client"] for one in (NODE, INSIDER, SERVER, HOLDER)})
for someone in (NODE, INSIDER, SERVER, HOLDER):
    REGISTRY.admit([someone.description])


def opened(
    data: bytes, by: Identity, expected: Expected = EXPECTED, guard: ReplayGuard | None = None
) -> tuple[Envelope, bytes]:
    guard = guard or ReplayGuard()
    return open_envelope(data, expected, REGISTRY, NOW, identity=by, guard=guard)


def reason(data: bytes, by: Identity, expected: Expected = EXPECTED) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        opened(data, by, expected)
    return caught.value.reason


def sent(payload: bytes = PAYLOAD, *to: Description, place: Place = PLACE) -> bytes:
    return seal_envelope(payload, NODE, place, to or (INSIDER.description,))


def parts(data: bytes) -> tuple[bytes, Front, bytes]:
    """Raw front, front, content."""
    end = 8 + struct.unpack(">I", data[4:8])[0]
    return data[:end], Front.from_bytes(data[8:end]), data[end:]


def content_key_of(data: bytes, receiver: Identity) -> bytes:
    """What an honest receiver learns, and a dishonest one may use."""
    _, front, _ = parts(data)
    sealed = front.keys[front.receivers.index(receiver.did)]
    return receiver.open(sealed, key_info(front.receivers, receiver.did))


def signed_head(data: bytes, receiver: Identity) -> bytes:
    _, front, _ = parts(data)
    key = content_key_of(data, receiver)
    bound = outside(front.receivers, front.keys)
    return AESGCM(head_key(key)).decrypt(NONCE, front.head, bound)


def rebuilt(signed: bytes, payload: bytes, *to: Description) -> bytes:
    """A message around a signed head, made with everything that qfl makes one with."""
    names = tuple(sorted(one.did for one in to))
    key = bytes(32)
    ordered = sorted(to, key=lambda one: one.did)
    keys = tuple(seal(key, one.sealing, key_info(names, one.did)) for one in ordered)
    head = AESGCM(head_key(key)).encrypt(NONCE, signed, outside(names, keys))
    raw = Front(names, keys, head).to_bytes()
    source = io.BytesIO(payload)
    return raw + b"".join(seal_chunks(content_key(key, raw), source, len(payload)))


def test_a_rebuilt_message_opens_so_that_the_attacks_below_fail_for_their_reason() -> None:
    data = sent()
    again = rebuilt(signed_head(data, INSIDER), PAYLOAD, INSIDER.description)
    assert opened(again, INSIDER)[1] == PAYLOAD


def test_a_receiver_cannot_send_on_what_was_sent_to_it() -> None:
    data = sent()
    onward = rebuilt(signed_head(data, INSIDER), PAYLOAD, SERVER.description)
    assert reason(onward, SERVER) is Refusal.RECEIVER
    both = rebuilt(signed_head(data, INSIDER), PAYLOAD, SERVER.description, INSIDER.description)
    assert reason(both, SERVER) is Refusal.RECEIVER


def test_a_receiver_cannot_publish_what_was_sealed_to_it() -> None:
    signed = signed_head(sent(), INSIDER)
    for receivers in ((), (INSIDER.did,)):
        published = Front(receivers, (), signed).to_bytes() + PAYLOAD
        expected = replace(EXPECTED, sealed=False)
        assert reason(published, INSIDER, expected) in (Refusal.RECEIVER, Refusal.NOT_SEALED)


def test_names_outside_cannot_be_swapped() -> None:
    raw, front, content = parts(sent())
    renamed = Front((SERVER.did,), front.keys, front.head).to_bytes() + content
    assert reason(renamed, SERVER) is Refusal.DAMAGED
    keys = tuple(reversed(parts(sent(b"x", SERVER.description, HOLDER.description))[1].keys))
    _, two, rest = parts(sent(b"x", SERVER.description, HOLDER.description))
    swapped = Front(two.receivers, keys, two.head).to_bytes() + rest
    assert reason(swapped, SERVER) is Refusal.DAMAGED
    assert len(raw) > 1000


def test_one_receiver_cannot_change_what_the_other_reads() -> None:
    data = sent(PAYLOAD, SERVER.description, INSIDER.description)
    raw, _, _ = parts(data)
    key = content_key(content_key_of(data, INSIDER), raw)
    other = bytes(len(PAYLOAD))
    changed = raw + b"".join(seal_chunks(key, io.BytesIO(other), len(other)))
    assert reason(changed, SERVER) is Refusal.DAMAGED


def test_an_insider_cannot_sign_what_it_cannot_read() -> None:
    # The signature lies inside: nothing of another's sealed message can be signed anew and passed
    # off as one's own, or as the other's.
    data = sent(PAYLOAD, SERVER.description)
    _, front, content = parts(data)
    body = Envelope(
        id=bytes(16),
        sender=INSIDER.did,
        receivers=(SERVER.did,),
        place=PLACE,
        sealed=True,
        length=len(PAYLOAD),
        digest=bytes(32),
    ).to_body()
    mine = wrap(HEAD, body, (INSIDER.sign(body, HEAD.context),))
    assert reason(Front(front.receivers, front.keys, mine).to_bytes() + content, SERVER) is (
        Refusal.DAMAGED
    )
    own_head = parts(rebuilt(mine, PAYLOAD, SERVER.description))[1].head
    assert reason(Front(front.receivers, front.keys, own_head).to_bytes() + content, SERVER) is (
        Refusal.DAMAGED
    )


def test_an_insider_signs_in_its_own_name_only() -> None:
    # Here the insider has read the message, and signs its head anew.
    body, _ = unwrap(HEAD, signed_head(sent(), INSIDER))
    head = replace(Envelope.from_body(body), receivers=(SERVER.did,))
    for sender, expected in ((NODE.did, Refusal.SIGNATURE), (INSIDER.did, Refusal.SENDER)):
        claimed = replace(head, sender=sender).to_body()
        signed = wrap(HEAD, claimed, (INSIDER.sign(claimed, HEAD.context),))
        data = rebuilt(signed, PAYLOAD, SERVER.description)
        assert reason(data, SERVER, replace(EXPECTED, sender=NODE.did)) is expected


def test_the_nodes_other_signatures_do_not_serve() -> None:
    body, _ = unwrap(HEAD, signed_head(sent(), INSIDER))
    claimed = replace(Envelope.from_body(body), receivers=(SERVER.did,)).to_body()
    signed = wrap(HEAD, claimed, (NODE.sign(claimed, b"qfl rotation 1"),))
    assert reason(rebuilt(signed, PAYLOAD, SERVER.description), SERVER) is Refusal.SIGNATURE


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place("run", 2, "train"), Refusal.ROUND),
        (Place("other", 1, "train"), Refusal.RUN),
        (Place("run", 1, "evaluate"), Refusal.STEP),
        (Place("run", 1, "train", attempt=1), Refusal.ATTEMPT),
    ],
)
def test_a_recorded_message_does_not_fit_another_round(place: Place, expected: Refusal) -> None:
    assert reason(sent(), INSIDER, Expected(place)) is expected


def test_a_recorded_message_wrapped_anew_is_still_the_same_message() -> None:
    guard, data = ReplayGuard(), sent()
    opened(data, INSIDER, guard=guard)
    again = rebuilt(signed_head(data, INSIDER), PAYLOAD, INSIDER.description)
    assert again != data
    with pytest.raises(RefusedError) as caught:
        opened(again, INSIDER, guard=guard)
    assert caught.value.reason is Refusal.REPLAYED


def chunks_of(content: bytes) -> list[bytes]:
    size = CHUNK + 16
    return [content[at : at + size] for at in range(0, len(content), size)]


def test_chunks_keep_their_places() -> None:
    data = sent()
    raw, _, content = parts(data)
    one, two, three, last = chunks_of(content)
    other = chunks_of(parts(sent())[2])
    for changed in (
        [two, one, three, last],
        [one, one, three, last],
        [one, two, last],
        [one, two, three],
        [one, two, three, last, last],
        [one, two, three, last[:-1]],
        [one, two, three, other[3]],
        [other[0], two, three, last],
        other,
        [],
    ):
        assert reason(raw + b"".join(changed), INSIDER) is Refusal.DAMAGED
    assert opened(raw + one + two + three + last, INSIDER)[1] == PAYLOAD


def test_content_of_one_message_does_not_fit_the_front_of_another() -> None:
    first, second = sent(), sent()
    assert reason(parts(first)[0] + parts(second)[2], INSIDER) is Refusal.DAMAGED
    # Not even under one content key: what a chunk is sealed under depends on the front.
    key = bytes(32)
    fronts = [parts(data)[0] for data in (first, second)]
    assert content_key(key, fronts[0]) != content_key(key, fronts[1])


def test_a_sender_cannot_claim_another_length_than_it_sealed() -> None:
    body, _ = unwrap(HEAD, signed_head(sent(), INSIDER))
    honest = Envelope.from_body(body)
    for length in (0, CHUNK, len(PAYLOAD) - 1, len(PAYLOAD) + 1, 2**40, 2**53):
        claimed = replace(honest, length=length).to_body()
        signed = wrap(HEAD, claimed, (NODE.sign(claimed, HEAD.context),))
        assert reason(rebuilt(signed, PAYLOAD, INSIDER.description), INSIDER) is Refusal.DAMAGED


def test_a_cut_stream_is_never_taken_for_a_shorter_one() -> None:
    key = bytes(32)
    sealed = b"".join(seal_chunks(key, io.BytesIO(PAYLOAD), len(PAYLOAD)))
    assert len(sealed) == sealed_length(len(PAYLOAD))
    for length in (CHUNK, 2 * CHUNK, 3 * CHUNK):
        cut = io.BytesIO(sealed[: sealed_length(length)])
        with pytest.raises(RefusedError):
            list(open_chunks(key, cut, length))
