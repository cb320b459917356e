"""Keeping the model from the server: release ``clients``.

Whoever opens sums keeps the global model and the server optimizer's state, and gives out the model
locked under a key that only the members of the run have. The server passes it on.
"""

from __future__ import annotations

import json
import struct

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict

from qfl.clients import noising
from qfl.clients.keys import boxed_secret
from qfl.crypto import Arrays, Header, IntVector, Layout, Step, lock, unlock
from qfl.crypto.sealing import derive
from qfl.errors import OpeningRefusedError, PayloadError
from qfl.global_model import GlobalModel, SummedUpdate
from qfl.records import (
    ARRAYS,
    CONFIG,
    MODEL,
    OPTIMIZER,
    arrays_of,
    bytes_record,
    record_bytes,
    record_of,
)
from qfl.server_optimizer import optimizer_from_json

KEY_BYTES = 32
_KEY = "qfl-model-key"
_KEPT = "qfl-kept-model"
_STATE = "qfl-kept-optimizer"
_ANSWERED = "qfl-kept-answer"


def keep_key(secret: bytes, context: Context) -> None:
    """Remember what the members were given; the key of the model follows from it."""
    for name in (_KEPT, _STATE, _ANSWERED):
        context.state.pop(name, None)  # another run's
    context.state[_KEY] = ConfigRecord({"key": _model_key(secret)})


def adopt(step: Step, message: Message, context: Context) -> Message:
    """Take over the initial model, and give it out locked.

    Raises:
        OpeningRefusedError: This node made no keys for a model that the server may not see.
        PayloadError: Model or optimizer cannot be read.
    """
    if step.release != "clients" or _KEY not in context.state:
        raise OpeningRefusedError("asked to keep a model, but this node made no key for one")
    if CONFIG not in message.content.config_records or ARRAYS not in message.content.array_records:
        raise PayloadError("asked to keep a model, but it or its optimizer did not come along")
    if _KEPT in context.state:
        raise OpeningRefusedError(
            "asked to keep a second model in one run: the first one would be told by what is "
            "released of it"
        )
    rule = optimizer_from_json(str(message.content.config_records[CONFIG][OPTIMIZER]))
    model = GlobalModel.start(arrays_of(message.content.array_records[ARRAYS]), rule)
    optimizer = str(message.content.config_records[CONFIG][OPTIMIZER])
    context.state[_KEPT] = record_of(model.arrays)
    context.state[_STATE] = record_of(dict(model.optimizer))
    context.state[CONFIG] = ConfigRecord({OPTIMIZER: optimizer})
    locked = _lock(step.run, model.arrays, context)
    return Message(RecordDict({MODEL: bytes_record(locked, "model")}), reply_to=message)


def next_model(
    step: Step, opened: IntVector, masked: bytes, header: Header, context: Context
) -> tuple[IntVector, bytes]:
    """Apply an opened sum to the model that is kept here.

    Asked again for the same place it answers the same, and the model stays where it is.

    Args:
        step: What the keys were made for.
        opened: What was opened here.
        masked: The rest of the sum, as the server sent it.
        header: Where it belongs.
        context: This node's.

    Returns:
        What the server may know, which is weight and metrics, and the locked next model.
    """
    if _KEPT not in context.state:
        raise OpeningRefusedError("asked to go on with a model that this node was never given")
    answered = context.state.config_records.get(_ANSWERED)
    # Before anything is worked out: whether another masked sum fits the key would tell of the key.
    digest = noising.digest_of(opened, masked)
    if answered is not None and header.round <= int(str(answered["round"])):
        if (answered["place"], answered["digest"]) != (header.place, digest):
            raise OpeningRefusedError(
                f"the kept model has gone on with another sum for round {answered['round']!s}: it "
                f"takes none of round {header.round} any more"
            )
        before, model_before = answered["values"], answered["model"]
        assert isinstance(before, bytes) and isinstance(model_before, bytes)
        return np.frombuffer(before, dtype="<i8").astype(np.int64), model_before
    values = noising.finished(step, opened, masked, header, context)
    rule = optimizer_from_json(str(context.state.config_records[CONFIG][OPTIMIZER]))
    optimizer = {
        name: np.asarray(array, dtype=np.float64)
        for name, array in arrays_of(context.state.array_records[_STATE]).items()
    }
    model = GlobalModel(arrays_of(context.state.array_records[_KEPT]), optimizer)
    level = noising.level_at(step, Layout.of(model.arrays).length, header)
    summed = SummedUpdate.of(values, Layout.of(model.arrays).length, step.sums, level)
    if summed.weight <= 0:
        raise OpeningRefusedError(f"round {header.round}, {header.step}: the weights add up to 0")
    model, _ = model.step(summed, rule)
    context.state[_KEPT] = record_of(model.arrays)
    context.state[_STATE] = record_of(dict(model.optimizer))
    released, locked = summed.rest, _lock(step.run, model.arrays, context)
    context.state[_ANSWERED] = ConfigRecord(
        {
            "place": header.place,
            "round": header.round,
            "digest": digest,
            "values": released.astype("<i8").tobytes(),
            "model": locked,
        }
    )
    return released, locked


def unlock_model(step: Step, message: Message, context: Context) -> None:
    """Put the model that the server passed on in place of its locked form.

    Raises:
        PayloadError: It is not locked for the members of this run.
    """
    if message.content.array_records.keys() - {MODEL}:
        raise PayloadError(
            "the server sent arrays in the clear, in a run in which the model comes locked"
        )
    key = _model_key(boxed_secret(step, context))
    locked = record_bytes(message.content, MODEL)
    del message.content[MODEL]
    message.content[ARRAYS] = record_of(_unlock(locked, key, step.run))


def _model_key(secret: bytes) -> bytes:
    return derive(secret, b"qfl model key", KEY_BYTES)


def _lock(run: str, arrays: Arrays, context: Context) -> bytes:
    from safetensors.numpy import save

    key = context.state.config_records[_KEY]["key"]
    assert isinstance(key, bytes)
    # safetensors sorts by name; the order of arrays is the order of coordinates.
    names = json.dumps(list(arrays)).encode()
    content = struct.pack("<I", len(names)) + names + save(arrays)
    return lock(key, content, _info(run))


def _unlock(locked: bytes, key: bytes, run: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = unlock(key, locked, _info(run))
    try:
        (size,) = struct.unpack_from("<I", content)
        arrays = load(content[4 + size :])
        return {name: arrays[name] for name in json.loads(content[4 : 4 + size])}
    except (
        SafetensorError,
        struct.error,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ) as error:
        raise PayloadError(f"the locked model cannot be read: {error}") from None


def _info(run: str) -> bytes:
    return f"qfl model {run}".encode()
