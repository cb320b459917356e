"""Contract with Flower's private names: what fails here says what a Flower update has changed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)

from qfl import _flower_compat as compat


def private(module: str, name: str) -> Any:
    """A private Flower name, or a failure that says which one is gone."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"Flower no longer has {module}.{name}: adapt qfl/_flower_compat.py ({error})")


@pytest.fixture
def message() -> Message:
    compat.set_task_identity(run_id=5, node_id=0)
    return Message(RecordDict(), 3, "train")


def test_message_takes_run_and_sender_from_the_task_identity() -> None:
    identity = private("flwr.supercore.task_identity", "TaskIdentity")
    for run_id, node_id in ((5, 0), (6, 9)):
        compat.set_task_identity(run_id, node_id)
        made = Message(RecordDict(), 3, "train").metadata
        assert (made.run_id, made.src_node_id) == (run_id, node_id), (
            "Message no longer reads TaskIdentity: adapt set_task_identity"
        )
    assert vars(identity)["_task_id"] is not None


def test_a_message_can_be_made_in_a_process_that_flower_did_not_start() -> None:
    script = (
        "from flwr.app import Message, RecordDict\n"
        "try:\n"
        "    Message(RecordDict(), 3, 'train')\n"
        "    print('needless')\n"
        "except RuntimeError:\n"
        "    from qfl._flower_compat import set_task_identity\n"
        "    set_task_identity(5, 0)\n"
        "    print(Message(RecordDict(), 3, 'train').metadata.run_id)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "5", (
        f"Message should refuse without an identity and work with one: {done.stdout}{done.stderr}"
    )


def test_a_stamp_changes_what_the_metadata_say(message: Message) -> None:
    compat.stamp_message(message, "m-1")
    seen = message.metadata
    assert (seen.message_id, seen.run_id, seen.src_node_id) == ("m-1", 5, 0), (
        "Metadata no longer keeps message_id in __dict__['_message_id']: adapt stamp_message"
    )
    compat.stamp_message(message, "m-2", run_id=8, src_node_id=0)
    assert (seen.message_id, seen.run_id, seen.src_node_id) == ("m-2", 8, 0)
    reply = Message(RecordDict(), reply_to=message)
    assert reply.metadata.reply_to_message_id == "m-2"
    assert reply.metadata.run_id == 8


def test_a_message_is_built_with_exactly_the_metadata_given() -> None:
    metadata = Metadata(1, "id", 2, 3, "asked", "group", 4.0, 5.0, "query")
    content = RecordDict()
    with_content = compat.build_message(metadata, content=content)
    with_error = compat.build_message(metadata, error=Error(2, "no"))
    assert with_content.metadata is with_error.metadata is metadata, (
        "Message no longer takes metadata=...: adapt build_message"
    )
    assert with_content.content is content
    assert with_error.error.reason == "no"


def test_an_empty_run_has_its_id() -> None:
    run = compat.create_run(12)
    assert isinstance(run, private("flwr.supercore.run", "Run"))
    assert run.run_id == 12


@pytest.mark.parametrize(
    "record",
    [
        ArrayRecord(),
        ArrayRecord({"": Array("", (), "", b""), "b": Array("uint8", (2, 0, 300), "x", b"ab")}),
        ConfigRecord({"text": "x", "bytes": b"y", "numbers": [1, 2], "yes": True}),
        MetricRecord({"one": 1, "several": [0.5, 1.5]}),
    ],
    ids=["no arrays", "arrays", "settings", "metrics"],
)
def test_records_become_the_bytes_that_flower_sends(record: Any) -> None:
    records = RecordDict({"first": ConfigRecord(), "name": record, "": MetricRecord()})
    written = compat.records_to_bytes(records)
    flowers = private("flwr.common.serde", "recorddict_to_proto")
    assert written == flowers(records).SerializeToString()
    assert compat.records_from_bytes(memoryview(b"front" + written)[5:]) == records


def test_error_codes_are_those_on_the_wire() -> None:
    codes = private("flwr.common.constant", "ErrorCode")
    names = ("CLIENT_APP_RAISED_EXCEPTION", "MESSAGE_UNAVAILABLE", "NODE_UNAVAILABLE")
    assert [getattr(codes, name, None) for name in names] == [2, 3, 5], (
        "Flower changed its error codes"
    )


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_the_ray_engine_takes_our_arguments() -> None:
    engine = private("flwr.simulation.run_simulation", "_run_simulation")
    parameters = set(inspect.signature(engine).parameters)
    ours = {"num_supernodes", "exit_event", "client_app", "server_app", "backend_name"}
    ours.add("backend_config")
    assert ours <= parameters, f"_run_simulation no longer takes {ours - parameters}"
    event = private("flwr.supercore.telemetry", "EventType")
    assert hasattr(event, "PYTHON_API_RUN_SIMULATION_LEAVE")


@pytest.mark.parametrize("first", ["flwr.app, flwr.supercore.telemetry", "qfl._flower_compat"])
@pytest.mark.parametrize(("chosen", "sent"), [(None, "0"), ("1", "1")])
def test_telemetry_is_off_unless_chosen_whatever_is_imported_first(
    first: str, chosen: str | None, sent: str, tmp_path: Path
) -> None:
    names = ("FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment["FLWR_HOME"] = environment["HOME"] = str(tmp_path)
    if chosen is not None:
        environment["FLWR_TELEMETRY_ENABLED"] = chosen
    # Nothing leaves the machine: the function that would send only counts.
    script = (
        f"import {first}\n"
        "import os, urllib.error, urllib.request, qfl._flower_compat\n"
        "from flwr.supercore.telemetry import EventType, create_event\n"
        "sent = []\n"
        "def refuse(*args, **kwargs):\n"
        "    sent.append(args)\n"
        "    raise urllib.error.URLError('no network here')\n"
        "urllib.request.urlopen = refuse\n"
        "create_event(EventType.PYTHON_API_RUN_SIMULATION_LEAVE, None)\n"
        "print(len(sent), os.environ['FLWR_DISABLE_UPDATE_CHECK'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == [sent, "1"], (
        f"FLWR_TELEMETRY_ENABLED no longer decides: adapt qfl/_flower_compat.py ({done.stderr})"
    )


def test_records_travel_as_bytes_and_nothing_else_is_read_as_records() -> None:
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(3.0))}),
            "metrics": MetricRecord({"loss": 0.5, "counts": [1, 2]}),
            "config": ConfigRecord({"name": "a", "raw": b"\x00", "on": True, "many": ["x"]}),
        }
    )
    data = compat.records_to_bytes(content)
    assert compat.records_from_bytes(data) == content
    assert compat.records_from_bytes(b"") == RecordDict()
    for wrong in (b"\xff", data[:-1], b"\x0a\x03abc", bytes(range(256))):
        with pytest.raises(ValueError, match="not the records of a message"):
            compat.records_from_bytes(wrong)
