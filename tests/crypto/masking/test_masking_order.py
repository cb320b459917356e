"""Steps are taken once, in order, by those who are in; state survives and is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from masking_round import KEYS, PLACE, STEPS, Round

from qfl.crypto.masking_client import MaskingClient
from qfl.crypto.masking_server import MaskingServer
from qfl.crypto.masking_wire import pack_advertisement
from qfl.crypto.members import MemberKeys, Roster
from qfl.errors import OpeningRefusedError, PayloadError


class Kept(dict[str, Any]):
    def __repr__(self) -> str:
        return "messages of one sum"


@pytest.fixture(scope="module")
def messages() -> Kept:
    """Every message of one sum of three clients, in and out of client 0."""
    case = Round(3)
    kept = Kept(case=case)
    for step in STEPS:
        message = case.message_for(step, 0)
        for index in range(3):
            state = case.clients[index].to_bytes()
            answer = case.answer(step, index, case.message_for(step, index))
            if index == 0:
                kept[step] = (message, answer, state)
            case.take(step, index, answer)
    return kept


@pytest.mark.parametrize("done", ["", *STEPS])
@pytest.mark.parametrize("asked", STEPS)
def test_a_client_takes_steps_in_order(messages: Kept, done: str, asked: str) -> None:
    """Advertising, agreeing and revealing may be asked for again and give the same."""
    case = messages["case"]
    at = STEPS.index(done) if done else -1
    state = messages[STEPS[at + 1]][2] if at + 1 < len(STEPS) else case.clients[0].to_bytes()
    client = MaskingClient.from_bytes(state, KEYS[0], case.roster, PLACE, case.rules)
    message, answer, _ = messages[asked]

    def ask() -> bytes:
        if asked == "advertise":
            return client.advertise()
        if asked == "mask":
            return client.mask(case.vectors[0], message)
        return bytes(getattr(client, asked)(message))

    if STEPS.index(asked) == at + 1 or (
        asked == done and asked in ("advertise", "agree", "reveal")
    ):
        found = ask()
        assert len(found) == len(answer)
        assert (found == answer) == (asked != "share")  # shares are drawn afresh
    else:
        with pytest.raises(OpeningRefusedError) as refusal:
            ask()
        assert f"asked to {asked} for {PLACE}, but this client has" in str(refusal.value)
        assert "steps are taken once and in order" in str(refusal.value)
        assert client.to_bytes() == state


def test_the_server_takes_a_message_once_and_at_its_step(messages: Kept) -> None:
    case = Round(4)
    answers: dict[str, bytes] = {}
    for number, step in enumerate(STEPS):
        case.message_for(step, 0)
        for other in STEPS[:number]:
            with pytest.raises(
                OpeningRefusedError, match=f"the step '{other}' of the sum .* not due"
            ):
                case.take(other, 0, answers[other])
        answers[step] = case.answer(step, 0, case.message_for(step, 0))
        case.take(step, 0, answers[step])
        with pytest.raises(OpeningRefusedError, match="already"):
            case.take(step, 0, answers[step])
        for index in (1, 2, 3):
            case.take(step, index, case.answer(step, index, case.message_for(step, index)))
    assert case.server.result().tolist() == case.sum_of(range(4))
    with pytest.raises(OpeningRefusedError, match="not due: the sum is open"):
        case.take("reveal", 0, answers["reveal"])


def test_the_server_asks_nobody_who_is_out() -> None:
    case = Round(6)
    case.step("advertise", range(5))
    case.step("share", [0, 1, 2, 3])
    case.step("mask")
    for ask in (case.server.inbox_for, case.server.signatures_for):
        with pytest.raises(OpeningRefusedError):
            ask(case.names[5])
    stranger = MemberKeys().name
    with pytest.raises(OpeningRefusedError, match=f"member {stranger} does not take part"):
        case.server.take_masked(stranger, b"")
    with pytest.raises(OpeningRefusedError, match=f"member {case.names[4]} has not shared its sec"):
        case.server.inbox_for(case.names[4])
    with pytest.raises(OpeningRefusedError, match=r"does not wait for member .* missed an earlier"):
        case.server.take_masked(case.names[4], b"")


def test_nothing_goes_out_before_it_is_due() -> None:
    case = Round(4)
    name = case.names[0]
    for early in (
        lambda: case.server.inbox_for(name),
        case.server.survivors,
        lambda: case.server.signatures_for(name),
        case.server.result,
    ):
        with pytest.raises(OpeningRefusedError, match=r"nobody takes part|not due"):
            early()
    case.until("mask")
    for early in (lambda: case.server.signatures_for(name), case.server.result):
        with pytest.raises(OpeningRefusedError, match="not due"):
            early()


def test_too_few_agreements() -> None:
    case = Round(4).until("mask")
    case.step("agree", [0, 1])
    with pytest.raises(
        OpeningRefusedError, match=r"2 of 4 clients agreed on the sum; at least 3 must. Nothing was"
    ):
        case.server.signatures_for(case.names[0])
    case.step("agree", [2])
    with pytest.raises(OpeningRefusedError, match=f"member {case.names[3]} has not agreed"):
        case.server.signatures_for(case.names[3])


def test_a_client_that_is_not_on_the_roster() -> None:
    case = Round(3)
    keys = MemberKeys()
    with pytest.raises(PayloadError, match=f"'{keys.name}' is not on the roster"):
        MaskingClient(keys, case.roster, PLACE, case.rules)
    other = MaskingClient(keys, Roster([keys.member]), PLACE, case.rules)
    with pytest.raises(PayloadError, match=f"'{keys.name}' is not on the roster"):
        case.server.take_advertisement(keys.name, other.advertise())


def test_a_signature_of_another_roster() -> None:
    case = Round(3)
    wider = Round(4)
    answer = wider.answer("advertise", 0, b"")
    with pytest.raises(PayloadError, match=f"of member {case.names[0]} is not signed by it for"):
        case.take("advertise", 0, answer)


def test_a_key_that_nobody_can_seal_to() -> None:
    """The member signs it, so only the key itself tells; its neighbours would fail on it."""
    case = Round(3)
    made = case.clients[0]._advertisement()
    bad = replace(made, sealing=b"\xff" * len(made.sealing))
    bad = replace(bad, signature=KEYS[0].sign(bad.statement(PLACE, case.roster)))
    with pytest.raises(PayloadError, match="a public sealing key is malformed"):
        case.server.take_advertisement(case.names[0], pack_advertisement(bad))


@pytest.mark.parametrize(
    ("keys", "place"), [(KEYS[1], PLACE), (KEYS[0], PLACE + "1"), (KEYS[0], "")]
)
def test_state_of_somebody_or_somewhere_else(keys: MemberKeys, place: str) -> None:
    case = Round(3).until("share")
    state = case.clients[0].to_bytes()
    with pytest.raises(PayloadError, match="belongs to another client, roster or sum"):
        MaskingClient.from_bytes(state, keys, case.roster, place, case.rules)
    wider = Roster(k.member for k in KEYS[:4])
    with pytest.raises(PayloadError, match="belongs to another client, roster or sum"):
        MaskingClient.from_bytes(state, KEYS[0], wider, PLACE, case.rules)


def mutated(data: st.DataObject, original: bytes) -> bytes:
    kind = data.draw(st.sampled_from(["random", "cut", "longer", "changed", "repeated"]))
    if kind == "random":
        return data.draw(st.binary(max_size=200))
    if kind == "cut":
        return original[: data.draw(st.integers(0, len(original) - 1))]
    if kind == "longer":
        return original + data.draw(st.binary(min_size=1, max_size=20))
    if kind == "repeated":
        return original + original[4:]
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of what can be misread stands at the front.
        end = data.draw(st.sampled_from([16, len(original)]))
        changed[data.draw(st.integers(0, min(end, len(original)) - 1))] ^= data.draw(
            st.integers(1, 255)
        )
    return bytes(changed)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_malformed_messages_to_a_client(messages: Kept, data: st.DataObject) -> None:
    """They are refused and change nothing; the right one still gets through."""
    case, step = messages["case"], data.draw(st.sampled_from(STEPS[1:]))
    message, _, state = messages[step]
    client = MaskingClient.from_bytes(state, KEYS[0], case.roster, PLACE, case.rules)

    def ask(received: bytes) -> bytes:
        if step == "mask":
            return client.mask(case.vectors[0], received)
        return bytes(getattr(client, step)(received))

    wrong = mutated(data, message)
    if wrong != message:
        with pytest.raises((PayloadError, OpeningRefusedError)):
            ask(wrong)
        assert client.to_bytes() == state
    ask(message)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_malformed_messages_to_the_server(data: st.DataObject) -> None:
    """Refused, or (packages, values, shares) of the right length and judged by others later."""
    case = Round(3)
    step = data.draw(st.sampled_from(STEPS))
    for earlier in STEPS[: STEPS.index(step)]:
        case.step(earlier)
    answer = case.answer(step, 0, case.message_for(step, 0))
    wrong = mutated(data, answer)
    before = case.server._total.copy()
    try:
        case.take(step, 0, wrong)
    except PayloadError:
        assert (case.server._total == before).all()
        assert case.names[0] in case.server.waiting_for
        case.take(step, 0, answer)
    else:
        assert len(wrong) == len(answer)
        assert step in ("share", "mask", "reveal") or wrong == answer


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_malformed_state(messages: Kept, data: st.DataObject) -> None:
    case = messages["case"]
    state = messages[data.draw(st.sampled_from(STEPS))][2]
    wrong = mutated(data, state)
    if wrong != state:
        with pytest.raises(PayloadError, match=r"is damaged|not the message 'state'"):
            MaskingClient.from_bytes(wrong, KEYS[0], case.roster, PLACE, case.rules)


def test_claimed_sizes_are_checked_before_anything_is_made() -> None:
    case = Round(3)
    case.step("advertise")
    huge = b"qfm\x01" + b"\xff" * 12
    with pytest.raises(PayloadError, match="advertisements of 16 bytes claim to be of 4294967295"):
        case.answer("share", 0, huge)
    server = MaskingServer(case.roster, PLACE, 10, case.rules)
    with pytest.raises(
        PayloadError, match=r"the message 'advertisement' has 5 bytes; expected 1316"
    ):
        server.take_advertisement(case.names[0], b"qfm\x00\x00")
    with pytest.raises(PayloadError, match="not the message 'advertisement' of a masked sum"):
        server.take_advertisement(case.names[0], b"qfl1")
