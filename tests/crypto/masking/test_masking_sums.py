"""Sums under masks are exact, whoever vanishes when, or they are refused."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from masking_round import KEYS, PLACE, STEPS, Round, rules_for

from qfl.crypto.encoding import SumRange
from qfl.crypto.masking_rules import MaskingRules
from qfl.errors import ConfigError, OpeningRefusedError, PayloadError, RangeError


@pytest.mark.parametrize("clients", [2, 3, 4, 10])
def test_the_sum_of_all(clients: int) -> None:
    case = Round(clients).until("reveal")
    assert case.server.result().tolist() == case.sum_of(range(clients))
    assert case.server.result().tolist() == case.sum_of(range(clients))  # and again
    assert case.server.wrong == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whoever_vanishes_when(data: st.DataObject) -> None:
    """``last[i]`` is how many steps client i takes; after that it is gone."""
    clients = data.draw(st.integers(2, 8), "clients")
    min_clients = data.draw(st.integers(2, clients), "min_clients")
    length = data.draw(st.sampled_from([0, 1, 2, 50]), "length")
    # Mostly those who stay: with the rest drawn evenly hardly any sum would get through.
    stays = st.sampled_from([5, 5, 5, 5, 5, 4, 3, 2, 1, 0])
    last = data.draw(st.lists(stays, min_size=clients, max_size=clients), "steps taken")
    case = Round(clients, length, rules=rules_for(clients, min_clients))

    def there(step: int) -> list[int]:
        return [i for i in range(clients) if last[i] > step]

    part = len(there(0))
    quorum = 2 * part // 3 + 1
    least = {1: min_clients, 2: max(min_clients, quorum), 3: max(min_clients, quorum), 4: quorum}
    case.step("advertise", there(0))
    for number, step in enumerate(STEPS[1:], start=1):
        if len(there(number - 1)) < least[number]:
            with pytest.raises(OpeningRefusedError, match=f"at least {least[number]}"):
                case.message_for(step, (there(number - 1) or [0])[0])
            return
        case.step(step, there(number))
    before = case.server._total.copy()
    if len(there(4)) < quorum:
        with pytest.raises(OpeningRefusedError, match=f"{quorum} are needed. Nothing was opened"):
            case.server.result()
        assert (case.server._total == before).all()
    else:
        assert case.server.result().tolist() == case.sum_of(there(2))


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 5), st.integers(1, 2**31 - 100), st.data())
def test_the_whole_range_is_exact(clients: int, capacity: int, data: st.DataObject) -> None:
    sums = SumRange(0, float(capacity), clients) if capacity > 2 * clients else None
    rules = MaskingRules(sums, 2) if sums else rules_for(clients)
    most = rules.sums.capacity
    first = data.draw(st.lists(st.integers(-most, most), min_size=4, max_size=4))
    others = [[-value // 2 for value in first], [value // 3 for value in first]]
    rest = np.zeros((clients - 3, 4), dtype=np.int64)
    vectors = np.vstack([np.array([first, *others]), rest])
    case = Round(clients, 4, rules=rules, vectors=vectors).until("reveal")
    assert case.server.result().tolist() == case.sum_of(range(clients))


def test_ends_of_the_range() -> None:
    rules = MaskingRules(SumRange(0, float(2**31 - 5), 4), 2)
    most = rules.sums.capacity
    assert most == 2**31 - 1
    vectors = np.array([[most, -most, most, 0], [0, 0, -most, 0], [0, 0, most, -1]])
    case = Round(3, 4, rules=rules, vectors=vectors).until("reveal")
    assert case.server.result().tolist() == [most, -most, most, -1]


@pytest.mark.parametrize("gone", [(), (3, 17, 18, 19, 30, 59)])
def test_sixty_clients_with_few_neighbours_each(gone: tuple[int, ...]) -> None:
    """Some vanish after their secrets were shared, some before that, some after masking."""
    case = Round(60, 5, rules=rules_for(60, 30))
    case.step("advertise")
    case.step("share", [i for i in range(60) if i != 40])
    circle = case.server._circle
    assert circle is not None
    assert not circle.neighbourhood.complete
    assert circle.neighbourhood.degree < 25
    masked = [i for i in range(60) if i not in gone and i != 40]
    case.step("mask", masked)
    case.step("agree", [i for i in masked if i != 5])
    case.step("reveal", [i for i in masked if i not in (5, 55)])
    assert case.server.result().tolist() == case.sum_of(masked)


def test_who_is_waited_for() -> None:
    case = Round(7)
    server = case.server
    case.step("advertise", range(6))
    assert server.waiting_for == [case.names[6]]
    case.step("share", [0])
    assert server.waiting_for == case.names[1:6]
    case.step("share", [1, 2, 3, 4, 5])
    case.step("mask", [0, 1])
    assert server.waiting_for == case.names[2:6]
    case.step("mask", [2, 3, 4])
    case.step("agree", [0])
    assert server.waiting_for == case.names[1:5]  # 5 did not mask and is not asked again
    case.step("agree", [1, 2, 3, 4])
    case.step("reveal", [0, 1, 2, 3, 4])
    assert server.waiting_for == []
    assert server.result().tolist() == case.sum_of(range(5))
    assert server.waiting_for == []


def test_too_few_shares_open_nothing_until_more_come() -> None:
    case = Round(10).until("agree")
    case.step("reveal", range(6))
    masked = case.server._total.copy()
    with pytest.raises(OpeningRefusedError, match=r"6 shares of member .* arrived; 7 are needed"):
        case.server.result()
    assert (case.server._total == masked).all()
    case.step("reveal", [9])
    assert case.server.result().tolist() == case.sum_of(range(10))


def test_too_few_participants() -> None:
    case = Round(5, rules=rules_for(5, min_clients=4))
    case.step("advertise", range(3))
    with pytest.raises(
        OpeningRefusedError, match=f"3 clients take part in the sum of {PLACE}; at least 4"
    ):
        case.server.advertisements()


def test_more_participants_than_the_sum_holds() -> None:
    case = Round(5, rules=rules_for(4))
    case.step("advertise")
    with pytest.raises(
        OpeningRefusedError, match=r"5 clients take part .* at most 4 contributions"
    ):
        case.server.advertisements()


def test_a_value_beyond_the_capacity_is_refused_and_may_be_corrected() -> None:
    case = Round(3).until("share")
    inbox = case.message_for("mask", 0)
    most = case.rules.sums.capacity
    with pytest.raises(RangeError, match=f"a value exceeds {most} grid steps"):
        case.clients[0].mask(np.array([0, -most - 1, 0]), inbox)
    for step in STEPS[2:]:
        case.step(step)
    assert case.server.result().tolist() == case.sum_of(range(3))


def test_a_sum_out_of_range_is_refused() -> None:
    case = Round(3, 200).until("share")
    for index in range(3):
        answer = case.answer("mask", index, case.message_for("mask", index))
        if index == 1:  # vectors of random words instead of its own
            noise = np.random.default_rng(5).bytes(len(answer) - 68)
            answer = answer[:68] + noise
        case.take("mask", index, answer)
    for step in STEPS[3:]:
        case.step(step)
    for _ in range(2):
        with pytest.raises(PayloadError, match="values beyond 2097155 grid steps"):
            case.server.result()


@pytest.mark.parametrize("bits", [29, 30])
def test_grids_that_do_not_fit_32_bits_are_refused(bits: int) -> None:
    sums = SumRange(bits, 4.0, 10)
    with pytest.raises(ConfigError) as refusal:
        MaskingRules(sums, 2)
    assert f"bound=4 with {bits} grid bits needs {4 * 2**bits + 10} steps" in str(refusal.value)
    assert "lower strategy.bound or strategy.grid_bits" in str(refusal.value)
    MaskingRules(SumRange(28, 7.9, 10), 2)


def test_a_sum_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="min_clients=1 is not allowed: a sum of one"):
        rules_for(3, min_clients=1)


def test_the_same_keys_serve_for_many_sums() -> None:
    for attempt in range(2):
        case = Round(3, place=f"run-7/4/train/{attempt}").until("reveal")
        assert case.server.result().tolist() == case.sum_of(range(3))
    assert case.keys == KEYS[:3]


def test_other_rules_are_noticed() -> None:
    rules = rules_for(60)
    case = Round(60, rules=rules)
    case.step("advertise")
    case.rules = replace(rules, corrupted=0.2)
    with pytest.raises(
        PayloadError, match=r"\(degree, threshold\) \(20, 8\) for 60 clients; this client with"
    ):
        case.answer("share", 0, case.message_for("share", 0))
