"""What an in-process grid does to Flower messages: copies, expiry, error replies."""

from __future__ import annotations

import time
from copy import copy

from flwr.app import Error, Message, Metadata

from qfl._flower_compat import build_message
from qfl.records import copy_records


def copy_message(message: Message) -> Message:
    """Copy a message so that no change to the copy or its records reaches the original."""
    metadata = copy(message.metadata)
    if message.has_error():
        return build_message(metadata, error=message.error)
    return build_message(metadata, content=copy_records(message.content))


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
