"""Flower records that carry qfl's own parts: a step, a key, a payload.

Names that both sides of the wire use, in one place. Large bytes travel as an ``Array``, which
Flower splits in chunks; as a configuration value they would take twice as long.
"""

from __future__ import annotations

import hashlib
import io
import math
import threading
from collections.abc import Mapping
from copy import copy
from tokenize import TokenError

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.lib import format as npy

from qfl.crypto import Arrays
from qfl.errors import PayloadError

# numpy parses an array's header with ``ast``, which CPython before 3.11.8 and 3.12.2 may fail at
# when several threads do so at once (gh-106905).
_PARSING = threading.Lock()

STEP = "qfl"
KEY = "qfl-key"
PAYLOAD = "qfl-payload"
MEMBER = "qfl-member"
ROSTER = "qfl-roster"
BOX = "qfl-box"
MASKED = "qfl-masked"
INBOX = "qfl-inbox"
MODEL = "qfl-model"
CLEAR = "qfl-clear"
PROTECTED = "qfl-protected"
OPTIMIZER = "qfl-optimizer"
PEOPLE = "qfl-people"
VOUCHED = "qfl-vouched"
VOUCHED_MEMBERS = "qfl-vouched-members"
VOUCHED_KEYS = "qfl-vouched-keys"
# What the mod takes out before an app sees the message.
_NOT_FOR_APPS = frozenset(
    {STEP, KEY, ROSTER, BOX, PROTECTED, INBOX, PEOPLE, VOUCHED, VOUCHED_MEMBERS, VOUCHED_KEYS}
)
CONFIG = "config"
ARRAYS = "arrays"
METRICS = "metrics"
NUM_EXAMPLES = "num-examples"


def bytes_record(data: bytes, kind: str) -> ArrayRecord:
    """Bytes as an ArrayRecord; ``kind`` names their format."""
    return ArrayRecord({"data": Array("uint8", (len(data),), f"qfl.{kind}", data)})


def record_bytes(content: RecordDict, name: str) -> bytes:
    """The bytes of :func:`bytes_record`.

    Raises:
        PayloadError: There are none under this name.
    """
    record = content.array_records.get(name)
    if record is None or "data" not in record:
        found = ", ".join(content) or "nothing"
        raise PayloadError(f"the message holds {found}; expected '{name}'")
    return record["data"].data


def arrays_of(record: ArrayRecord) -> Arrays:
    """Named numpy arrays of a record.

    Raises:
        PayloadError: An array cannot be read as numbers.
    """
    try:
        with _PARSING:
            for array in record.values():
                _check_array(array.data)
            return {name: array.numpy() for name, array in record.items()}
    except (TypeError, ValueError, SyntaxError, OverflowError, RecursionError, EOFError) as error:
        raise PayloadError(f"the arrays of a message cannot be read: {error}") from None
    except TokenError as error:
        raise PayloadError(f"the arrays of a message cannot be read: {error.args[0]}") from None


def _check_array(data: bytes) -> None:
    """Refuse what is no array of numbers of the size that it claims, before numpy allocates it."""
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("an array is not in version 1.0 of numpy's format")
    shape, _, kind = npy.read_array_header_1_0(file)
    claimed = math.prod(shape) * kind.itemsize
    if kind.hasobject or kind.kind not in "fiubcU" or claimed != len(data) - file.tell():
        raise ValueError(
            f"an array of type {kind.str} and {claimed} bytes is claimed, with "
            f"{len(data) - file.tell()} bytes behind the head"
        )


def record_of(arrays: Arrays) -> ArrayRecord:
    """An ArrayRecord of named numpy arrays."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def content_bytes(message: Message) -> int:
    """Bytes of a message's content: arrays, and configuration and metrics as text."""
    if not message.has_content():
        return 0
    total = 0
    for record in message.content.values():
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        else:
            total += sum(len(key) + _value_bytes(value) for key, value in record.items())
    return total


def _value_bytes(value: object) -> int:
    return len(value) if isinstance(value, bytes) else len(str(value))


def content_digest(content: Mapping[str, object]) -> str:
    """Digest of what an app is sent: models, settings, everything but qfl's own parts.

    Protection is bound to it, so that contributions of clients that were sent different models do
    not add up to anything: a server could otherwise make all updates vanish but one (Pasquini,
    Francati and Ateniese 2022).
    """
    digest = hashlib.sha256()
    for name in sorted(content):
        if name in _NOT_FOR_APPS:
            continue
        record = content[name]
        parts: list[object] = [name, type(record).__name__]
        if isinstance(record, ArrayRecord):
            for key, array in record.items():
                bytes_of = hashlib.sha256(array.data).hexdigest()
                parts.append((key, array.dtype, tuple(array.shape), array.stype, bytes_of))
        elif isinstance(record, ConfigRecord | MetricRecord):
            parts.extend(sorted(record.items()))
        # Each part with its length in front: no two contents read alike when joined.
        for part in parts:
            text = repr(part).encode(errors="surrogatepass")
            digest.update(len(text).to_bytes(8, "little") + text)
        digest.update(len(parts).to_bytes(8, "little"))
    return digest.hexdigest()


def step_record(step_json: str) -> ConfigRecord:
    """The record that asks a client for a step."""
    return ConfigRecord({"step": step_json})


def copy_records(records: RecordDict) -> RecordDict:
    """Copy records; immutable values, above all the bytes of arrays, are shared.

    ``copy.deepcopy`` would do, but for arrays whose object id was computed: they hold a memoryview,
    which it cannot copy.

    >>> config = ConfigRecord({"rates": [0.1, 0.2]})
    >>> twin = copy_records(RecordDict({"config": config}))
    >>> twin["config"]["rates"].append(0.3)
    >>> config["rates"]
    [0.1, 0.2]
    """
    twin = records.copy()
    for name, record in records.items():
        twin[name] = _copy_record(record)
    return twin


def _copy_record(
    record: ArrayRecord | MetricRecord | ConfigRecord,
) -> ArrayRecord | MetricRecord | ConfigRecord:
    if isinstance(record, ArrayRecord):
        arrays = record.copy()
        for name, array in record.items():
            arrays[name] = copy(array)
            if not isinstance(array.data, bytes):  # a bytearray put there by hand can change
                arrays[name].data = bytes(array.data)
        return arrays
    # One branch per type, since a list of strings belongs in one of them only.
    if isinstance(record, MetricRecord):
        metrics = record.copy()
        for name, metric in record.items():
            if isinstance(metric, list):
                metrics[name] = metric.copy()
        return metrics
    config = record.copy()
    for name, value in record.items():
        if isinstance(value, list):
            config[name] = value.copy()
    return config
