"""The mod around somebody's app, one message at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from qfl._flower_compat import set_task_identity
from qfl.clients import ProtectMod
from qfl.crypto import Header, KeyPair, Step, from_limbs, make_scheme, unpack
from qfl.errors import ConfigError, CryptoError, PayloadError, RangeError

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
MODEL = {"w": np.array([1.0, -1.0]), "steps": np.array(5), "b": np.array([0.5], np.float32)}
TRAINED = {"w": np.array([1.25, -1.5]), "steps": np.array(9), "b": np.array([1.5], np.float32)}

App = Callable[[Message, Context], Message]


@pytest.fixture(autouse=True)
def _identity() -> None:
    set_task_identity(1, 0)


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def context_of(**node_config: Any) -> Context:
    return Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})


def message_of(step: Step | str | None, kind: str = "train", **records: Any) -> Message:
    content = RecordDict({"arrays": record(MODEL), "config": ConfigRecord({"lr": 0.5}), **records})
    if step is not None:
        text = step if isinstance(step, str) else step.to_json()
        content["qfl"] = ConfigRecord({"step": text})
    return Message(content, dst_node_id=1, message_type=kind)


def answer(content: dict[str, Any]) -> App:
    return lambda message, context: Message(RecordDict(content), reply_to=message)


def trained(**metrics: float) -> App:
    return answer({"arrays": record(TRAINED), "metrics": MetricRecord(dict(metrics))})


def call(
    message: Message, app: App | None = None, context: Context | None = None, **options: Any
) -> Message:
    mod = ProtectMod(**options)
    return mod(message, context or context_of(), app or answer({}))


def vector(reply: Message) -> tuple[Header, np.ndarray]:
    """Header and grid integers of a plain reply."""
    assert list(reply.content) == ["qfl-payload"]
    header, body = unpack(reply.content["qfl-payload"]["data"].data)
    steps = np.frombuffer(body, "<f4").astype(float) * 2**20
    assert (steps == np.rint(steps)).all()
    return header, steps


def public_key(data: bytes) -> dict[str, Any]:
    return {"qfl-key": ArrayRecord({"data": Array("uint8", (len(data),), "qfl.key", data)})}


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return make_scheme("ckks", STEP.longest, STEP.sums).generate_keys()


def test_an_app_that_nobody_asks_for_protection_is_left_alone() -> None:
    seen: list[Message] = []
    made: list[Message] = []

    def app(message: Message, context: Context) -> Message:
        seen.append(message)
        made.append(trained(loss=1.0)(message, context))
        return made[0]

    message = message_of(None)
    assert call(message, app) is made[0]
    assert seen == [message] and seen[0] is message
    assert set(message.content) == {"arrays", "config"}


def test_the_app_sees_neither_step_nor_key(keys: KeyPair) -> None:
    seen: list[set[str]] = []

    def app(message: Message, context: Context) -> Message:
        seen.append(set(message.content))
        return trained()(message, context)

    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=keys.key_id)
    call(message_of(step, **public_key(keys.public)), app)
    assert seen == [{"arrays", "config"}]


def test_update_weight_and_metrics_travel_as_one_vector() -> None:
    step = replace(STEP, metrics=("loss", "acc"))
    header, steps = vector(call(message_of(step), trained(loss=2.0, acc=0.5, other=7.0)))
    limbs = STEP.sums.limbs
    assert header == replace(step.header(4 + 2 * limbs), terms=header.terms)
    # Differences 0.25, -0.5 and 1.0, times a weight of a quarter, and the weight itself;
    # the counter is an integer and takes no part.
    assert (steps[:4] / 2**20).tolist() == [0.0625, -0.125, 0.25, 0.25]
    assert from_limbs(steps[4:].astype(np.int64), STEP.sums).tolist() == [0.5, 0.125]


def test_weights_by_examples_are_shares_of_the_total() -> None:
    step = replace(STEP, examples=80)
    _, steps = vector(call(message_of(step), trained(**{"num-examples": 10})))
    assert (steps / 2**20).tolist() == [0.03125, -0.0625, 0.125, 0.125]
    _, steps = vector(call(message_of(step), trained(**{"num-examples": 0})))
    assert steps.tolist() == [0, 0, 0, 0]


def test_evaluation_sends_weight_and_metrics_only() -> None:
    step = replace(STEP, step="evaluate", label="evaluate", metrics=("acc",))
    app = answer({"m": MetricRecord({"acc": 0.75})})
    header, steps = vector(call(message_of(step, "evaluate"), app))
    assert header.length == 1 + STEP.sums.limbs
    assert steps[0] == 2**18
    assert from_limbs(steps[1:].astype(np.int64), STEP.sums).tolist() == [0.1875]


def test_numbers_of_a_query_travel_unweighed() -> None:
    step = replace(STEP, step="sum", label="count", round=0)
    app = answer({"numbers": record({"count": np.array([123456.0]), "other": np.array([-0.5])})})
    header, steps = vector(call(message_of(step, "query.count"), app))
    assert (header.step, header.round, header.length) == ("count", 0, 2 * STEP.sums.limbs)
    assert from_limbs(steps.astype(np.int64), STEP.sums).tolist() == [123456.0, -0.5]


def test_under_encryption_only_the_key_holder_reads_the_same_vector(keys: KeyPair) -> None:
    _, steps = vector(call(message_of(STEP), trained()))
    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=keys.key_id)
    reply = call(message_of(step, **public_key(keys.public)), trained())
    header, body = unpack(reply.content["qfl-payload"]["data"].data)
    assert header.key_id == keys.key_id
    scheme = make_scheme("ckks", STEP.longest, STEP.sums)
    assert scheme.open(body, header.length, keys.secret).tolist() == steps.tolist()


def test_an_error_of_the_app_passes_through() -> None:
    from flwr.app import Error

    def app(message: Message, context: Context) -> Message:
        return Message(Error(7, "out of memory"), reply_to=message)

    reply = call(message_of(STEP), app)
    assert reply.has_error() and reply.error.reason == "out of memory"


def test_require_refuses_an_unprotected_reply_before_the_app_runs() -> None:
    def app(message: Message, context: Context) -> Message:
        raise AssertionError("the app must not run")

    with pytest.raises(
        PayloadError, match="asks for an unprotected reply; this client requires scheme 'ckks'"
    ):
        call(message_of(None), app, require="ckks")
    with pytest.raises(PayloadError, match="asks for scheme 'plain'; this client requires 'ckks'"):
        call(message_of(STEP), app, require="ckks")


def test_require_lets_its_own_scheme_pass(keys: KeyPair) -> None:
    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=keys.key_id)
    reply = call(message_of(step, **public_key(keys.public)), trained(), require="ckks")
    assert "qfl-payload" in reply.content


def test_the_public_key_is_kept_for_later_messages(keys: KeyPair) -> None:
    context = context_of()
    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=keys.key_id)
    with pytest.raises(
        PayloadError, match=f"the run's public key {keys.key_id} never reached this client"
    ):
        call(message_of(step), trained(), context)
    call(message_of(step, **public_key(keys.public)), trained(), context)
    later = call(message_of(replace(step, round=4)), trained(), context)
    assert unpack(later.content["qfl-payload"]["data"].data)[0].round == 4


def test_another_key_than_the_one_named_is_refused(keys: KeyPair) -> None:
    context = context_of()
    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=keys.key_id)
    call(message_of(step, **public_key(keys.public)), trained(), context)
    other = replace(step, key_id="0123456789abcdef")
    words = f"this client has public key {keys.key_id}, the step names 0123456789abcdef"
    with pytest.raises(PayloadError, match=words):
        call(message_of(other), trained(), context)
    with pytest.raises(PayloadError, match=words):
        call(message_of(other, **public_key(keys.public)), trained())


def test_a_secret_key_in_the_public_ones_place_is_refused(keys: KeyPair) -> None:
    import hashlib

    key_id = hashlib.sha256(keys.secret).hexdigest()[:16]
    step = replace(STEP, scheme="ckks", trust="key_holder", key_id=key_id)
    with pytest.raises(CryptoError):
        call(message_of(step, **public_key(keys.secret)), trained())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the server's step cannot be read"),
        ("[]", "the server's step cannot be read"),
        ("{not json", "the server's step cannot be read"),
        ('{"step": "train"}', "the server's step cannot be read"),
        ("[" * 100_000, "the server's step cannot be read"),
        (json.dumps(json.loads(STEP.to_json()) | {"evil": 1}), "unexpected keyword argument"),
        (replace(STEP, step="steal").to_json(), "unknown step 'steal'"),
        (replace(STEP, bound=1e9).to_json(), "bound=1000000000.0"),
        (replace(STEP, clients=0).to_json(), "clients=0"),
        (json.dumps(json.loads(STEP.to_json()) | {"round": "1"}), "round='1', expected int"),
    ],
)
def test_a_malformed_step_is_refused(text: str, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        call(message_of(text), trained())


def test_a_step_record_without_a_step_is_refused() -> None:
    message = message_of(None, qfl=ConfigRecord({"other": 1}))
    with pytest.raises(PayloadError, match="the server's step cannot be read"):
        call(message, trained())


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises((ConfigError, PayloadError), match="unknown scheme 'rot13'"):
        call(message_of(replace(STEP, scheme="rot13")), trained())


def test_an_encrypting_scheme_without_a_key_never_falls_back_to_plain() -> None:
    with pytest.raises(CryptoError):
        call(message_of(replace(STEP, scheme="ckks", trust="key_holder", key_id="")), trained())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": record(TRAINED), "b": record(TRAINED)}, "the app returned 2; exactly one each"),
        ({"m": MetricRecord({"loss": 1.0})}, "the app returned 0; exactly one each"),
        ({"a": record({"w": TRAINED["w"]})}, "array 'steps' has shape nothing; expected"),
        ({"a": record(TRAINED | {"w": np.zeros(3)})}, r"array 'w' has shape \(3,\); expected"),
        ({"a": record(TRAINED | {"more": np.zeros(3)})}, "unexpected arrays: more"),
    ],
)
def test_arrays_that_cannot_be_summed_are_refused(content: dict[str, Any], words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        call(message_of(STEP), answer(content))


def test_two_array_records_from_the_server_are_refused() -> None:
    message = message_of(STEP, control=record(MODEL))
    with pytest.raises(PayloadError, match="the server sent 2 array records"):
        call(message, trained())


def test_a_missing_metric_is_refused_and_what_is_there_is_named() -> None:
    step = replace(STEP, metrics=("loss", "accuracy"))
    with pytest.raises(
        PayloadError,
        match="no number for metric 'accuracy'; it returned: loss, acc",
    ):
        call(message_of(step), trained(loss=1.0, acc=0.5))
    with pytest.raises(PayloadError, match="metric 'loss'; it returned: none"):
        call(message_of(step), answer({"arrays": record(TRAINED)}))


@pytest.mark.parametrize("examples", [81, -1, float("nan"), None])
def test_a_count_that_cannot_be_is_refused(examples: float | None) -> None:
    """A client that claims more than all hold together would outweigh the others."""
    app = trained() if examples is None else trained(**{"num-examples": examples})
    with pytest.raises(
        PayloadError, match="no num-examples between 0 and the 80 counted at the start"
    ):
        call(message_of(replace(STEP, examples=80)), app)


def test_an_update_beyond_the_range_is_refused() -> None:
    far = answer({"arrays": record(TRAINED | {"w": np.array([1.0, 1.5])})})
    with pytest.raises(RangeError, match="a coordinate beyond 2, the most"):
        call(message_of(STEP), far)


def test_a_model_changed_in_place_still_gives_its_difference() -> None:
    def app(message: Message, context: Context) -> Message:
        for name, array in TRAINED.items():
            message.content["arrays"][name] = Array(array)
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    _, steps = vector(call(message_of(STEP), app))
    assert (steps / 2**20).tolist() == [0.0625, -0.125, 0.25, 0.25]
