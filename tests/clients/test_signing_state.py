"""What a node remembers of its servers: nothing of before comes back, no record is rewritten."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from flwr.app import Context, RecordDict
from hypothesis import given

from qfl.clients.signing_state import Conversation
from qfl.errors import RefusedError
from qfl.identity.countersigning import Head

A, B = "did:qfl:a", "did:qfl:b"


def context() -> Context:
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})


def refusal(error: pytest.ExceptionInfo[RefusedError]) -> str:
    return error.value.reason


def test_sessions_of_a_server_go_forward_only() -> None:
    talk = Conversation().entered("2", A).heard(5)
    assert (talk.session, talk.server, talk.number) == ("2", A, 5)
    assert talk.entered("2", A) == talk
    assert talk.entered("3", A).number == 0
    with pytest.raises(RefusedError) as error:
        talk.entered("1", A)
    assert refusal(error) == "replayed"


def test_servers_take_turns_and_none_goes_back() -> None:
    talk = Conversation().entered("2", A).entered("1", B)
    assert (talk.server, talk.session) == (B, "1")
    assert talk.entered("2", A).session == "2"
    # Back in a session that was left for another server, its messages are not taken again.
    back = Conversation().entered("2", A).heard(7).entered("1", B).heard(1).entered("2", A)
    assert back.number == 7
    with pytest.raises(RefusedError, match="began before session '2'"):
        talk.entered("1", A)


@given(st.lists(st.integers(1, 50), max_size=30))
def test_numbers_only_rise(numbers: list[int]) -> None:
    talk, highest = Conversation().entered("1", A), 0
    for number in numbers:
        if number > highest:
            talk, highest = talk.heard(number), number
        else:
            with pytest.raises(RefusedError, match="sent again, or late"):
                talk.heard(number)
        assert talk.number == highest


def test_the_servers_record_neither_shrinks_nor_changes() -> None:
    talk = Conversation().entered("1", A).shown(Head("run", 7, "aa"))
    assert talk.shown(Head("run", 7, "aa")).head == Head("run", 7, "aa")
    assert talk.shown(Head("run", 8, "bb")).head == Head("run", 8, "bb")
    assert talk.shown(Head("other", 1, "cc")).head == Head("other", 1, "cc")
    for wrong in (Head("run", 6, "aa"), Head("run", 7, "bb")):
        with pytest.raises(RefusedError) as error:
            talk.shown(wrong)
        assert refusal(error) == "head"
    # Another session of the server does not make the node forget.
    with pytest.raises(RefusedError):
        talk.entered("2", A).shown(Head("run", 6, "aa"))


def test_it_is_kept_in_the_nodes_state() -> None:
    node = context()
    assert Conversation.of(node) == Conversation()
    talk = Conversation().entered("2", A).entered("1", B).heard(9).shown(Head("run", 3, "dd"))
    talk.keep(node)
    assert Conversation.of(node) == talk
    Conversation().entered("1", A).keep(node)
    assert Conversation.of(node).head is None
