"""A client masks once for each place, whatever came in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from qfl._flower_compat import set_task_identity
from qfl.clients import ProtectMod
from qfl.crypto import MemberKeys, Roster, Step
from qfl.errors import OpeningRefusedError
from qfl.records import bytes_record, record_bytes

HELLO = Step(
    step="hello",
    run="run-1",
    round=0,
    label="hello",
    scheme="masking",
    trust="none",
    key_id="",
    longest=10,
    fraction_bits=20,
    bound=2.0,
    additions=3,
    min_clients=3,
    clients=3,
    examples=0,
)


@pytest.fixture(autouse=True)
def _identity() -> None:
    set_task_identity(1, 0)


def call(step: Step, context: Context, **records: Any) -> Message:
    content = RecordDict({"qfl": ConfigRecord({"step": step.to_json()}), **records})
    message = Message(content, dst_node_id=1, message_type="train")
    return ProtectMod()(message, context, lambda message, context: message)


def test_an_earlier_place_is_not_taken_up_again() -> None:
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    own = record_bytes(call(HELLO, context).content, "qfl-member")
    others = [MemberKeys().member for _ in range(2)]
    seed = context.state["qfl-member"]["seed"]
    assert isinstance(seed, bytes)
    assert MemberKeys(seed).member.to_bytes() == own
    roster = Roster([MemberKeys(seed).member, *others]).to_bytes()

    def advertise(round: int) -> bytes:
        step = replace(HELLO, step="advertise", label="train", round=round)
        reply = call(step, context, **{"qfl-roster": bytes_record(roster, "told")})
        return record_bytes(reply.content, "qfl-payload")

    first = advertise(1)
    assert advertise(1) == first  # asked again before anything else: the same answer
    assert advertise(2) != first
    with pytest.raises(OpeningRefusedError, match=r"run-1/1/train/0/\w+ a second time"):
        advertise(1)
