"""Every private Flower name that this project uses, in one place (written for Flower 1.41).

Flower's public API ends at ``flwr.app``, ``flwr.clientapp`` and ``flwr.serverapp``. What qfl needs
beyond it is collected here, one small function per private name, so that a Flower update breaks
this file and its contract tests and nothing else.

Importing this module turns Flower's telemetry and update check off, unless the user has set
``FLWR_TELEMETRY_ENABLED`` or ``FLWR_DISABLE_UPDATE_CHECK``.
"""

from __future__ import annotations

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    config_record_to_proto,
    metric_record_to_proto,
    recorddict_from_proto,
)
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.serverapp import ServerApp
from flwr.supercore import telemetry
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

# Flower reads the variable once, when it is first imported, which may have been before us.
telemetry.FLWR_TELEMETRY_ENABLED = os.environ["FLWR_TELEMETRY_ENABLED"]

__all__ = [
    "ErrorCode",
    "Run",
    "build_message",
    "create_run",
    "records_from_bytes",
    "records_to_bytes",
    "run_ray_simulation",
    "set_task_identity",
    "stamp_message",
]


def set_task_identity(run_id: int, node_id: int) -> None:
    """Say which run and node this process creates messages for.

    Private: ``flwr.supercore.task_identity.TaskIdentity``. ``Message(content, dst, type)`` raises
    ``RuntimeError`` while it is unset, and Flower sets it only in processes that it starts itself.
    It is global to the process: whoever sets it last wins.
    """
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id


def stamp_message(
    message: Message,
    message_id: str,
    *,
    run_id: int | None = None,
    src_node_id: int | None = None,
) -> None:
    """Give a message its id and, where given, its run and sender.

    Private: the entries ``_message_id``, ``_run_id`` and ``_src_node_id`` of ``Metadata.__dict__``.
    The properties are read-only, since in Flower a SuperLink assigns them; its own in-memory grid
    writes the entries as well.
    """
    entries = message.metadata.__dict__
    entries["_message_id"] = message_id
    if run_id is not None:
        entries["_run_id"] = run_id
    if src_node_id is not None:
        entries["_src_node_id"] = src_node_id


def build_message(
    metadata: Metadata, content: RecordDict | None = None, error: Error | None = None
) -> Message:
    """Build a message with exactly this metadata.

    Private: the ``metadata`` argument of ``Message``. The documented signatures always make new
    metadata, so a faithful copy of a message is not possible with them.
    """
    build: Any = Message
    message: Message = build(metadata=metadata, content=content, error=error)
    return message


def create_run(run_id: int) -> Run:
    """Describe a run of which only the id is known.

    Private: ``flwr.supercore.run.Run``, the type that ``Grid.run`` and ``Grid.set_run`` exchange.
    """
    return Run.create_empty(run_id)


def run_ray_simulation(
    server_app: ServerApp, client_app: ClientApp, nodes: int, backend_config: dict[str, Any]
) -> None:
    """Run both apps on Flower's Ray engine, in the main thread's time.

    Private: ``flwr.simulation.run_simulation._run_simulation``. The public ``run_simulation`` is
    the same with a deprecation warning and a telemetry event; it will be removed.

    Raises:
        RuntimeError: the engine itself failed, for instance because Ray could not be reached.
    """
    # Flower imports Ray with its simulation package: seconds, and an optional dependency.
    from flwr.simulation.run_simulation import _run_simulation

    _run_simulation(
        num_supernodes=nodes,
        exit_event=telemetry.EventType.PYTHON_API_RUN_SIMULATION_LEAVE,
        client_app=client_app,
        server_app=server_app,
        backend_name="ray",
        backend_config=backend_config,
    )


def records_to_bytes(records: RecordDict) -> bytes:
    """A message's content as bytes, the ones that Flower itself sends.

    Arrays are written where they belong: ``flwr.common.serde.recorddict_to_proto`` builds small
    parts first and puts each into the next larger one, which copies arrays several times.

    Private: ``flwr.proto.recorddict_pb2.RecordDict``, ``flwr.common.serde.config_record_to_proto``
    and ``metric_record_to_proto``.
    """
    proto = RecordDictProto()
    for name, record in records.items():
        item = proto.items.add(key=name)
        if isinstance(record, ArrayRecord):
            item.array_record.SetInParent()
            for key, array in record.items():
                value = item.array_record.items.add(key=key).value
                value.dtype, value.stype, value.data = array.dtype, array.stype, array.data
                value.shape.extend(array.shape)
        elif isinstance(record, ConfigRecord):
            item.config_record.CopyFrom(config_record_to_proto(record))
        else:
            item.metric_record.CopyFrom(metric_record_to_proto(record))
    written: bytes = proto.SerializeToString()
    return written


def records_from_bytes(data: bytes | memoryview) -> RecordDict:
    """The inverse of :func:`records_to_bytes`.

    Private: ``flwr.common.serde.recorddict_from_proto``, ``flwr.proto.recorddict_pb2.RecordDict``.

    Raises:
        ValueError: The bytes are none.
    """
    try:
        return recorddict_from_proto(RecordDictProto.FromString(data))
    # What protobuf raises depends on which of its implementations runs; Flower's checks of records
    # raise errors of their own.
    except Exception as error:
        raise ValueError(f"not the records of a message: {error}") from None
