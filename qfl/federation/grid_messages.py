"""What an in-process grid does to Flower messages: copies, expiry, error replies."""

from __future__ import annotations

import time
from copy import copy

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict

from qfl._flower_compat import build_message


def copy_message(message: Message) -> Message:
    """Copy a message so that no change to the copy or its records reaches the original."""
    metadata = copy(message.metadata)
    if message.has_error():
        return build_message(metadata, error=message.error)
    return build_message(metadata, content=copy_records(message.content))


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


def has_expired(metadata: Metadata) -> bool:
    """Say whether a message's time to live is over."""
    return metadata.created_at + metadata.ttl < time.time()


def error_reply(metadata: Metadata, error: Error, *, message_id: str, src_node_id: int) -> Message:
    """Answer the message with this metadata by an error, in the name of ``src_node_id``."""
    now = time.time()
    return build_message(
        Metadata(
            run_id=metadata.run_id,
            message_id=message_id,
            src_node_id=src_node_id,
            dst_node_id=metadata.src_node_id,
            reply_to_message_id=metadata.message_id,
            group_id=metadata.group_id,
            created_at=now,
            ttl=max(metadata.created_at + metadata.ttl - now, 0.0),
            message_type=metadata.message_type,
        ),
        error=error,
    )


def check_reply(reply: object, message_id: str) -> None:
    """Refuse what a client app may not return.

    A SuperLink drops such a reply, and the server waits until the time to live is over.

    Raises:
        TypeError: ``reply`` is not a Message, or does not reply to ``message_id``.
    """
    if not isinstance(reply, Message):
        raise TypeError(f"the client app must return a Message, not {type(reply).__name__}")
    if reply.metadata.reply_to_message_id != message_id:
        raise TypeError("the client app must return Message(content, reply_to=message)")
