"""What a server that lies would gain, and that clients do not let it."""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np
import pytest
from masking_round import KEYS, PLACE, STEPS, Round, rules_for
from numpy.typing import NDArray

from qfl.crypto.keystream import change_masks
from qfl.crypto.masking_circle import Circle
from qfl.crypto.masking_client import shares_to_give
from qfl.crypto.masking_package import Package, edge_seed, open_edge
from qfl.crypto.masking_statements import Members, pack_members
from qfl.crypto.masking_wire import (
    HEAD_BYTES,
    SHARE_BYTES,
    frame,
    pack_advertisements,
    pack_signatures,
    unpack_advertisement,
)
from qfl.crypto.members import MemberKeys
from qfl.crypto.sealing import SealingKey, seal
from qfl.crypto.shamir import bytes_of, combine
from qfl.errors import OpeningRefusedError, PayloadError

VICTIM = 1


def circle_of(case: Round) -> Circle:
    assert case.server._circle is not None
    return case.server._circle


def everybody(case: Round) -> Members:
    return np.ones(len(case.names), dtype=np.bool_)


def without(case: Round, *gone: int) -> Members:
    members = everybody(case)
    members[list(gone)] = False
    return members


def secret_from(given: list[bytes], threshold: int) -> bytes:
    rows = np.stack([np.frombuffer(share, "<u4").astype(np.int64) for share in given[:threshold]])
    return bytes_of(combine(rows, [giver + 1 for giver in range(threshold)]))


def unmask(case: Round, masked: bytes, seed: bytes, root: bytes) -> NDArray[np.int32]:
    """One client's vector from its masked vector and both of its secrets."""
    circle = circle_of(case)
    words = np.frombuffer(masked[HEAD_BYTES + 64 :], "<u4").astype(np.uint32)
    key = SealingKey(root)
    add, subtract = [], [seed]
    for other in circle.neighbours(VICTIM).tolist():
        if other > VICTIM:
            subtract.append(edge_seed(circle, VICTIM, other, root))
        else:
            edge = Package.from_bytes(case.server._packages[VICTIM][other]).edge
            add.append(open_edge(circle, other, VICTIM, edge, key))
    change_masks(words, add, subtract)
    return words.view(np.int32)


def test_both_secrets_of_a_client_give_its_vector_away() -> None:
    """Why clients agree: these give shares to whoever asks, for one set and then for another."""
    case = Round(4).until("share")
    masked = [case.answer("mask", i, case.message_for("mask", i)) for i in range(4)]
    for index, answer in enumerate(masked):
        case.take("mask", index, answer)
    circle, threshold = circle_of(case), circle_of(case).neighbourhood.threshold
    for_all, for_others = [], []
    for index, client in enumerate(case.clients):
        held = client._state.held
        for members, found in ((everybody(case), for_all), (without(case, VICTIM), for_others)):
            given = shares_to_give(circle, index, everybody(case), members, held)
            found.append(given[VICTIM])
    seed, root = secret_from(for_all, threshold), secret_from(for_others, threshold)
    assert (seed, root) == case.secrets[VICTIM]
    found = unmask(case, masked[VICTIM], seed, root)
    assert found.tolist() == case.vectors[VICTIM].tolist()
    # With either secret alone all four values stay noise.
    for pair in ((seed, bytes(32)), (bytes(32), root)):
        with pytest.raises((PayloadError, AssertionError)):
            assert (unmask(case, masked[VICTIM], *pair) == found).any()


def test_a_second_set_of_survivors_is_refused() -> None:
    case = Round(4).until("mask")
    survivors = case.message_for("agree", 0)
    answer = case.answer("agree", 0, survivors)
    other = frame("survivors", pack_members(without(case, VICTIM)))
    for _ in range(2):
        with pytest.raises(
            OpeningRefusedError, match=f"has agreed on the sum of 4 clients for {PLACE}, and on no"
        ):
            case.answer("agree", 0, other)
    assert case.answer("agree", 0, survivors) == answer


def test_both_kinds_of_shares_are_not_to_be_had() -> None:
    """Even with everybody's signature over both sets, which honest clients never give."""
    case = Round(4).until("agree")
    circle, other = circle_of(case), without(case, VICTIM)
    signed = circle.agreement(everybody(case), other)
    signers = {i: KEYS[i].sign(signed) for i in range(4)}
    views = [case.server._views[j] for j in (1, 2, 3)]
    forged = [pack_signatures(signers, views), pack_signatures(signers, views[1:])]
    for message, words in zip(forged, ("does not fit what was agreed on", "claim"), strict=True):
        with pytest.raises(PayloadError, match=words):
            case.answer("reveal", 0, message)
    answer = case.answer("reveal", 0, case.message_for("reveal", 0))
    for message in forged:
        assert case.answer("reveal", 0, message) == answer  # as before, and nothing more


def test_after_its_answer_a_client_holds_no_shares() -> None:
    case = Round(4).until("reveal")
    for client in case.clients:
        assert client._state.held == {}
        assert client._state.seed == client._state.root == b""


def test_an_unsigned_set_is_refused() -> None:
    case = Round(4).until("mask")
    for index in range(4):
        case.take("agree", index, case.answer("agree", index, case.message_for("agree", index)))
    views = [case.server._views[j] for j in (1, 2, 3)]
    agreed = case.server._agreed
    for signers, words in (
        ({}, "0 members signed what was agreed on; at least 3 must"),
        ({i: agreed[i] for i in (0, 1)}, "2 members signed what was agreed on; at least 3 must"),
        ({**agreed, 3: bytes(64)}, f"signature of member {case.names[3]} does not fit"),
        ({**agreed, 3: agreed[2]}, f"signature of member {case.names[3]} does not fit"),
        ({**agreed, 3: KEYS[9].sign(b"a stranger")}, "does not fit what was agreed on"),
        ({**agreed, 4: KEYS[4].sign(b"a stranger")}, "claim to be of 5 clients"),
        ({0: agreed[0], 1: agreed[1], 4: agreed[2]}, "a participant twice, or one that there is"),
    ):
        with pytest.raises(PayloadError, match=words):
            case.answer("reveal", 0, pack_signatures(signers, views))
    twice = pack_signatures({0: agreed[0], 1: agreed[1], 2: agreed[1]}, views)
    twice = twice.replace(
        (2).to_bytes(4, "little") + agreed[1], (1).to_bytes(4, "little") + agreed[1]
    )
    with pytest.raises(PayloadError, match="signatures name a participant twice"):
        case.answer("reveal", 0, twice)
    case.step("reveal")
    assert case.server.result().tolist() == case.sum_of(range(4))


def test_sets_that_are_not_sound_are_not_signed() -> None:
    case = Round(7)
    case.step("advertise")
    case.step("share", [0, 1, 2, 3, 4, 5])
    case.step("mask")
    for members, words in (
        (everybody(case), "said to hold clients that did not share secrets"),
        (without(case, 0, 6), "the server leaves this client out of those who sent masked"),
        (without(case, 3, 4, 6), "4 of 7 clients sent masked vectors; at least 5 must"),
    ):
        with pytest.raises(OpeningRefusedError, match=words):
            case.answer("agree", 0, frame("survivors", pack_members(members)))
    case.step("agree")
    case.step("reveal")
    assert case.server.result().tolist() == case.sum_of(range(6))


def test_seeds_of_the_server_are_refused() -> None:
    """Sealing to somebody needs no secret: the signature is what keeps the server out."""
    case = Round(4).until("share")
    circle, server = circle_of(case), case.server
    me, other = 3, 0
    sealing = server._advertised[case.names[me]].sealing
    known = secrets.token_bytes(32)
    edge = seal(known, sealing, circle.between("edge", other, me))
    honest = server._packages[me][other]
    shares, signature = honest[: -len(edge) - 64], honest[-64:]
    own = MemberKeys().sign(circle.between("package", other, me, shares, edge))
    for forged in (shares + edge + signature, shares + edge + own):
        server._packages[me][other] = forged
        with pytest.raises(
            PayloadError, match=f"from member {case.names[0]} is not signed by it for this sum"
        ):
            case.answer("mask", me, case.message_for("mask", me))
    # With that seed the server would have taken this pair's mask off.
    assert SealingKey(case.secrets[me][1]).open(edge, circle.between("edge", other, me)) == known


def test_a_package_for_somebody_else_is_refused() -> None:
    case = Round(4).until("share")
    packages = case.server._packages
    packages[3][0], packages[3][1] = packages[3][1], packages[3][0]
    with pytest.raises(PayloadError, match=f"from member {case.names[0]} is not signed by it"):
        case.answer("mask", 3, case.message_for("mask", 3))


@pytest.mark.parametrize("part", ["shares", "edge"])
def test_what_cannot_be_opened_is_refused_with_its_sender_named(part: str) -> None:
    """Signed by a member, so the member is to blame."""
    case = Round(4).until("share")
    circle, packages = circle_of(case), case.server._packages
    made = Package.from_bytes(packages[3][2])
    junk = replace(made, **{part: bytes(len(getattr(made, part)))})
    signed = circle.between("package", 2, 3, junk.shares, junk.edge)
    packages[3][2] = replace(junk, signature=KEYS[2].sign(signed)).to_bytes()
    with pytest.raises(PayloadError, match=f"from member {case.names[2]}: a sealed message cannot"):
        case.answer("mask", 3, case.message_for("mask", 3))
    # The one who refuses counts as vanished. Without the seed of the common mask, which the sender
    # has put on its vector, the sum cannot be opened; that is said with the sender's name as well.
    case.step("mask", [0, 1, 2])
    case.step("agree")
    case.step("reveal")
    if part == "shares":
        assert case.server.result().tolist() == case.sum_of([0, 1, 2])
    else:
        with pytest.raises(PayloadError, match=f"common mask from member {case.names[2]}: a seal"):
            case.server.result()


def test_clients_that_were_told_of_others_are_noticed() -> None:
    """A client that masks among fewer lacks masks; its neighbours refuse to open the sum."""
    case = Round(7).until("share")
    circle, server = circle_of(case), case.server
    case.message_for("mask", 0)
    lied = without(case, 5, 6)
    packages = [server._packages[0][j] for j in (1, 2, 3, 4)]
    answer = case.answer("mask", 0, frame("inbox", pack_members(lied), *packages))
    with pytest.raises(PayloadError, match="masked among other participants than were announced"):
        server.take_masked(case.names[0], answer)
    # A server that goes on all the same cannot show the signature that the others ask for.
    case.step("mask", range(1, 7))
    server._views[0] = answer[HEAD_BYTES : HEAD_BYTES + 64]
    case.step("agree", range(1, 7))
    with pytest.raises(PayloadError, match=f"the signature of member {case.names[0]} does not fit"):
        case.answer("reveal", 1, case.message_for("reveal", 1))
    assert circle.view(lied) != circle.view(everybody(case))


def test_advertisements_of_the_server_are_refused() -> None:
    case = Round(4)
    case.step("advertise")
    case.server.advertisements()
    circle, advertised = circle_of(case), case.server._advertised
    own = SealingKey().public
    first, second = case.names[:2]
    for name, change, words in (
        (second, {"sealing": own}, f"of member {second} is not signed by it for {PLACE} and this"),
        (second, {"commitment": bytes(32)}, f"of member {second} is not signed by it"),
        (second, {"signature": KEYS[9].sign(b"")}, f"of member {second} is not signed by it"),
        (first, {"sealing": own}, "do not hold this client's own as it was made"),
    ):
        changed = {**advertised, name: replace(advertised[name], **change)}
        with pytest.raises(PayloadError, match=words):
            case.answer("share", 0, pack_advertisements(circle, changed))
    others = {name: made for name, made in advertised.items() if name != first}
    fewer = Circle(list(others), bytes(32), case.rules)
    with pytest.raises(PayloadError, match="do not hold this client's own as it was made"):
        case.answer("share", 0, pack_advertisements(fewer, others))
    stranger = Round(9, rules=case.rules)
    answer = stranger.answer("advertise", 8, b"")
    more = {**advertised, stranger.names[8]: unpack_advertisement(answer)}
    wider = Circle(sorted(more), bytes(32), rules_for(9))
    with pytest.raises(PayloadError, match=f"'{stranger.names[8]}' is not on the roster"):
        case.answer("share", 0, pack_advertisements(wider, more))


def test_few_participants_are_refused_by_the_client_itself() -> None:
    """The server may want fewer; a client takes the number from its own rules."""
    case = Round(3, rules=rules_for(3, min_clients=3))
    case.step("advertise", [0, 1])
    case.server._rules = rules_for(3, min_clients=2)
    with pytest.raises(OpeningRefusedError, match=r"2 clients take part .*; at least 3 are needed"):
        case.answer("share", 0, case.message_for("share", 0))


@pytest.mark.parametrize("step", STEPS)
def test_messages_of_another_place_are_refused(step: str) -> None:
    """Same clients, same roster, same vectors, one round later."""
    before, after = Round(3, place="run-7/2/train/0"), Round(3, place="run-7/3/train/0")
    for case in (before, after):
        for earlier in STEPS[: STEPS.index(step)]:
            case.step(earlier)
        case.message_for(step, 0)
    answers = [before.answer(step, i, before.message_for(step, i)) for i in range(3)]
    if step not in ("advertise", "agree"):  # what the server sends then is bound to nothing
        with pytest.raises(PayloadError):
            after.answer(step, 0, before.message_for(step, 0))
    if step != "reveal":
        with pytest.raises(PayloadError, match=r"signed|masked among other"):
            after.take(step, 0, answers[0])
    else:  # what is revealed carries no signature of its own: the sum notices
        for index in range(3):
            after.answer(step, index, after.message_for(step, index))
            after.take(step, index, answers[index])
        with pytest.raises(PayloadError, match="give it: the member dealt wrong shares"):
            after.server.result()


def test_a_client_masks_once() -> None:
    """Two vectors under the same masks would show their difference."""
    case = Round(3).until("mask")
    inbox = case.server
    message = frame("inbox", pack_members(everybody(case)), *inbox._packages[0].values())
    with pytest.raises(
        OpeningRefusedError, match=f"asked to mask for {PLACE}, but this client has"
    ):
        case.answer("mask", 0, message)


def test_secrets_do_not_leave_in_the_clear() -> None:
    case = Round(5)
    for step in STEPS[:2]:
        case.step(step)
    case.step("mask", range(4))
    case.step("agree")
    edges = [
        edge_seed(circle_of(case), i, j, case.secrets[i][1])
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    kept = [both for client in case.clients for both in client._state.held.values()]
    case.step("reveal")
    sent = b"".join(case.wire)
    for seed, root in case.secrets:
        assert seed not in sent
        assert root not in sent
    assert not any(edge in sent for edge in edges)
    for keys in case.keys:
        assert keys.seed[:32] not in sent
        assert keys.seed[32:] not in sent
    # Of each pair of shares exactly one was given, by those who gave any.
    given = [(b[:SHARE_BYTES] in sent, b[SHARE_BYTES:] in sent) for b in kept]
    assert {(True, False), (False, True)} <= set(given)
    assert (True, True) not in given
    assert case.server.result().tolist() == case.sum_of(range(4))


def test_nothing_secret_is_printed() -> None:
    case = Round(3).until("share")
    client = case.clients[0]
    printed = repr(client) + repr(client._state) + repr(case.server) + str(client)
    assert printed.startswith(f"MaskingClient(name='{case.names[0]}', place='{PLACE}')ClientState(")
    for secret in (*case.secrets[0], *client._state.held.values()):
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed


def test_masked_vectors_look_like_noise() -> None:
    """Zeros masked by three clients, byte by byte against the uniform distribution."""
    case = Round(3, 100_000, vectors=np.zeros((3, 100_000), dtype=np.int64)).until("share")
    masked = [case.answer("mask", i, case.message_for("mask", i))[68:] for i in range(3)]
    words = [np.frombuffer(data, "<u4") for data in masked]
    pairs = [words[0] - words[1], words[0] + words[1], words[1] ^ words[2]]
    for stream in (*words, *pairs):
        counts = np.bincount(stream.view(np.uint8), minlength=256)
        expected = stream.size * 4 / 256
        assert ((counts - expected) ** 2 / expected).sum() < 450  # 255 degrees: 1e-12
        assert np.unique(stream).size > 99_000
    assert (sum(words).astype(np.uint32) == 0).sum() < 5  # own masks are left


def test_masked_vectors_depend_on_everything() -> None:
    """Other masks at another place, in another attempt, for another client, and each time."""
    vectors = np.zeros((3, 8), dtype=np.int64)
    seen = set()
    for place in ("run/1/train/0", "run/1/train/1", "run/2/train/0", "run/2/train/0"):
        case = Round(3, 8, place=place, vectors=vectors).until("share")
        for index in range(3):
            masked = case.answer("mask", index, case.message_for("mask", index))[68:]
            seen |= {masked[at : at + 4] for at in range(0, 32, 4)}
    assert len(seen) >= 4 * 3 * 8 - 1
