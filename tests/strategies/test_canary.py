"""What the server receives, searched for what it must not see.

The search runs over every byte of every reply that reached the server. Each form in which an
update, a count or a key might slip through is also planted once, so that the search is known to
find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord

from qfl.clients import ProtectMod
from qfl.crypto import KeyHolder, Step
from qfl.strategies import Aggregation, SecureStrategy

# Long enough not to turn up in a random digest by accident.
SIZES = (79_190_317, 61_330_411, 88_610_909)
TOTAL = sum(SIZES)
LENGTH = 40
RUN_OF_VALUES = 4
RUN_OF_KEY = 32


def forms(values: np.ndarray) -> Iterable[np.ndarray]:
    """A vector in the types in which it could travel."""
    for kind in ("<f8", "<f4"):
        yield values.astype(kind)


def needles(toy: Any) -> set[bytes]:
    """Runs of four neighbouring values of updates, local models and weighed updates."""
    found = set()
    model = toy.initial["weight"]
    for i, size in enumerate(SIZES):
        update = toy.move(i, model)
        steps = np.rint(update * (size / TOTAL * 2**20))
        vectors = [*forms(update), *forms(model + update), *forms(steps / 2**20)]
        vectors += [np.rint(update * 2**20).astype("<i8"), steps.astype("<i8"), steps.astype("<i4")]
        for vector in vectors:
            flat = vector.ravel()
            for start in range(flat.size - RUN_OF_VALUES + 1):
                found.add(flat[start : start + RUN_OF_VALUES].tobytes())
    return found


def key_needles(key: Any) -> set[bytes]:
    """Pieces of the secret key; the parameters, which the public part holds too, are none."""
    pieces = (key.secret[at : at + RUN_OF_KEY] for at in range(0, len(key.secret) - RUN_OF_KEY, 16))
    return {piece for piece in pieces if piece not in key.public}


def blobs_and_values(replies: list[Message]) -> tuple[list[bytes], list[object]]:
    """All bytes, and all single values outside of arrays."""
    blobs: list[bytes] = []
    values: list[object] = []
    for reply in replies:
        if reply.has_error():
            blobs.append(str(reply.error.reason).encode())
            continue
        for record in reply.content.values():
            if isinstance(record, ArrayRecord):
                blobs += [array.data for array in record.values()]
                continue
            for value in record.values():
                items = value if isinstance(value, list) else [value]
                blobs += [item for item in items if isinstance(item, bytes)]
                values += [item for item in items if not isinstance(item, bytes)]
    return blobs, values


def leaks(replies: list[Message], toy: Any, keys: Iterable[Any] = ()) -> set[str]:
    """Kinds of secrets that occur in the replies."""
    blobs, values = blobs_and_values(replies)
    found = set()
    hay = b"\x00SEPARATOR\x00".join(blobs)
    if any(needle in hay for needle in needles(toy)):
        found.add("update")
    counts = [np.array([size], kind).tobytes() for size in SIZES for kind in ("<f8", "<i8")]
    words = [str(size).encode() for size in SIZES]
    if any(value in SIZES for value in values if isinstance(value, int | float)) or any(
        needle in hay for needle in counts + words
    ):
        found.add("count")
    if any(needle in hay for key in keys for needle in key_needles(key)):
        found.add("key")
    return found


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every key pair that a key holder makes."""
    made = []
    create = KeyHolder.create

    def watched(*args: Any) -> KeyHolder:
        holder = create(*args)
        made.append(holder.keys)
        return holder

    monkeypatch.setattr(KeyHolder, "create", staticmethod(watched))
    return made


def strategy(scheme: str) -> SecureStrategy:
    return SecureStrategy(
        Aggregation(scheme, "examples"), metrics=("loss",), evaluate_metrics=("eval_loss",)
    )


def test_under_encryption_the_server_sees_no_update_no_count_and_no_key(
    run: Callable[..., Any], make_toy: Callable[..., Any], keys: list[Any]
) -> None:
    toy = make_toy(SIZES, LENGTH)
    ran = run(toy, strategy("ckks"), rounds=1)
    assert len(keys) == 1 and len(key_needles(keys[0])) > 100
    # hello, keygen, count, opening, training, opening, evaluation, opening
    assert len(ran.grid.received) == 3 + 1 + 3 + 1 + 3 + 1 + 3 + 1
    assert leaks(ran.grid.received, toy, keys) == set()


def test_without_encryption_the_search_finds_the_update(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(SIZES, LENGTH)
    ran = run(toy, strategy("plain"), rounds=1)
    assert "update" in leaks(ran.grid.received, toy)


def in_metrics(reply: Message, context: Context, model: np.ndarray) -> None:
    reply.content["extra"] = MetricRecord({"num-examples": SIZES[0]})


def in_text(reply: Message, context: Context, model: np.ndarray) -> None:
    reply.content["extra"] = ConfigRecord({"log": f"trained on {SIZES[0]} examples".encode()})


def as_array(kind: str) -> Callable[..., None]:
    def plant(reply: Message, context: Context, model: np.ndarray) -> None:
        toy_update = np.asarray(model, kind)
        reply.content["extra"] = ArrayRecord({"w": Array(toy_update)})

    return plant


def part_of_update(reply: Message, context: Context, model: np.ndarray) -> None:
    some = model.ravel()[11 : 11 + RUN_OF_VALUES].astype("<f4").tobytes()
    reply.content["extra"] = ConfigRecord({"blob": b"x" + some})


def secret_key(reply: Message, context: Context, model: np.ndarray) -> None:
    held = context.state.config_records.get("qfl-key-holder")
    if held is not None:
        secret = held["secret"]
        assert isinstance(secret, bytes)
        reply.content["extra"] = ConfigRecord({"blob": secret[100:400]})


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (in_metrics, "count"),
        (in_text, "count"),
        (as_array("<f8"), "update"),
        (as_array("<f4"), "update"),
        (part_of_update, "update"),
        (secret_key, "key"),
    ],
)
def test_the_search_finds_a_planted_leak(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    keys: list[Any],
    plant: Callable[[Message, Context, np.ndarray], None],
    kind: str,
) -> None:
    class Leaky(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            asked = Step.from_json(message.content["qfl"]["step"]).step
            reply = super().__call__(message, context, call_next)
            if context.node_id == 1 and asked == "train":
                plant(reply, context, toy.move(0, toy.initial["weight"]))
            return reply

    toy = make_toy(SIZES, LENGTH, mods=[Leaky()])
    ran = run(toy, strategy("ckks"), rounds=1)
    assert leaks(ran.grid.received, toy, keys) == {kind}
