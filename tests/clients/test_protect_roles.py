"""The mod as a key holder, and what a node says that it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl._flower_compat import set_task_identity
from qfl.clients import ProtectMod
from qfl.crypto import Header, Step, make_scheme, pack
from qfl.errors import OpeningRefusedError, PayloadError

STEP = Step(
    step="train",
    run="run-1",
    round=3,
    label="train",
    scheme="plain",
    trust="none",
    key_id="",
    longest=100,
    fraction_bits=20,
    bound=2.0,
    additions=4,
    min_clients=2,
    clients=4,
    examples=0,
)


@pytest.fixture(autouse=True)
def _identity() -> None:
    set_task_identity(1, 0)


def context_of(**node_config: Any) -> Context:
    return Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})


def message_of(step: Step, **records: Any) -> Message:
    content = RecordDict({"qfl": ConfigRecord({"step": step.to_json()}), **records})
    return Message(content, dst_node_id=1, message_type="train")


def call(message: Message, context: Context | None = None, **options: Any) -> Message:
    def app(message: Message, context: Context) -> Message:
        raise AssertionError("these steps are none of the app's business")

    return ProtectMod(**options)(message, context or context_of(), app)


HELLO = replace(STEP, step="hello", label="hello", round=0)


@pytest.mark.parametrize(
    ("options", "node_config", "client", "holder"),
    [
        ({}, {}, 1, 0),
        ({}, {"role": "key-holder"}, 0, 1),
        ({}, {"role": "both"}, 1, 1),
        ({"role": "key-holder"}, {"role": "client"}, 0, 1),
        ({"role": lambda context: "both"}, {}, 1, 1),
    ],
)
def test_a_node_says_what_it_does(
    options: dict[str, Any], node_config: dict[str, Any], client: int, holder: int
) -> None:
    reply = call(message_of(HELLO), context=context_of(**node_config), **options)
    roles = reply.content["roles"]
    assert (roles["client"], roles["key-holder"]) == (client, holder)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(
        PayloadError, match="role 'boss' is unknown; known: client, key-holder, both"
    ):
        call(message_of(HELLO), role="boss")


KEYGEN = replace(STEP, step="keygen", label="keygen", round=0, scheme="ckks", trust="key_holder")


def opening(payload: bytes, step: Step = KEYGEN) -> Message:
    data = Array("uint8", (len(payload),), "qfl.ckks", payload)
    asked = replace(step, step="open", round=1, label="train")
    return message_of(asked, **{"qfl-payload": ArrayRecord({"data": data})})


def sum_for(public: bytes, count: int, label: str = "train") -> bytes:
    import hashlib

    scheme = make_scheme("ckks", KEYGEN.longest, KEYGEN.sums)
    total = scheme.accumulator(2, public)
    for i in range(count):
        total.add(scheme.protect(np.array([i, 10 * i]), public))
    key_id = hashlib.sha256(public).hexdigest()[:16]
    return pack(Header("ckks", key_id, "run-1", 1, label, 2, count), total.result())


def made_key(context: Context, step: Step = KEYGEN) -> bytes:
    key: bytes = call(message_of(step), context=context).content["qfl-key"]["data"].data
    return key


def test_a_key_holder_makes_one_key_per_run_and_opens_sums() -> None:
    context = context_of()
    public = made_key(context)
    assert made_key(context) == public
    reply = call(opening(sum_for(public, 3)), context=context)
    assert reply.content["qfl-payload"]["data"].numpy().tolist() == [3, 30]
    other = made_key(context, replace(KEYGEN, run="run-2"))
    assert other != public


def test_a_key_holder_remembers_what_it_opened() -> None:
    context = context_of()
    public = made_key(context)
    first = sum_for(public, 3)
    call(opening(first), context=context)
    again = call(opening(first), context=context)
    assert again.content["qfl-payload"]["data"].numpy().tolist() == [3, 30]
    with pytest.raises(OpeningRefusedError, match="another sum was already opened for round 1"):
        call(opening(sum_for(public, 4)), context=context)
    call(opening(sum_for(public, 4, "evaluate")), context=context)


def test_a_key_holder_keeps_to_the_terms_on_which_it_made_the_key() -> None:
    context = context_of()
    terms = replace(KEYGEN, min_clients=3)
    public = made_key(context, terms)
    with pytest.raises(OpeningRefusedError, match=r"a sum of 2 updates .* at least 3 are needed"):
        call(opening(sum_for(public, 2), terms), context=context)
    with pytest.raises(PayloadError, match=r"changed the terms of run run-1: .* at least 3"):
        call(opening(sum_for(public, 2), replace(terms, min_clients=1)), context=context)


def test_a_key_for_single_updates_is_never_made() -> None:
    with pytest.raises(OpeningRefusedError, match="a sum of one update is that update"):
        call(message_of(replace(KEYGEN, min_clients=1)))


def test_a_node_without_a_key_opens_nothing() -> None:
    with pytest.raises(OpeningRefusedError, match="this node holds no key"):
        call(opening(b"qfl1"))


def test_the_secret_key_stays_where_it_was_made() -> None:
    context = context_of()
    reply = call(message_of(KEYGEN), context=context)
    secret = context.state["qfl-key-holder"]["secret"]
    assert list(reply.content) == ["qfl-key"]
    sent = reply.content["qfl-key"]["data"].data
    assert secret not in sent
    pieces = [secret[at : at + 32] for at in range(1000, len(secret) - 32, 500)]
    assert pieces and not any(piece in sent for piece in pieces)
