"""Messages are copied at the grid's boundary: nobody sees another's changes."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from hypothesis import given

from qfl._flower_compat import build_message, set_task_identity
from qfl.federation.grid_messages import copy_message
from qfl.federation.local_grid import LocalGrid
from qfl.records import copy_records


def ask(grid: Grid, content: RecordDict) -> list[Message]:
    """One train message per node, all holding the same content object as FedAvg's do."""
    return [Message(content, node, "train") for node in grid.get_node_ids()]


def test_a_client_changing_the_shared_content_changes_nobody_elses() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content.config_records["config"]
        history = config["history"]
        assert isinstance(history, list)
        seen = MetricRecord({"history": len(history), "extra": int("extra" in config)})
        history.append(1.0)  # type: ignore[arg-type]
        config["extra"] = 1
        array = message.content.array_records["arrays"]["w"]
        seen["sum"] = float(array.numpy().sum())
        array.data = b""
        message.content["new"] = MetricRecord({"x": 1})
        return Message(RecordDict({"seen": seen}), reply_to=message)

    config = ConfigRecord({"history": [0.5]})
    arrays = ArrayRecord({"w": Array(np.ones(4))})
    content = RecordDict({"config": config, "arrays": arrays})
    with LocalGrid(app, 4, workers=1) as grid:
        replies = grid.send_and_receive(ask(grid, content))
    seen = [dict(reply.content["seen"]) for reply in replies]
    assert seen == [{"history": 1, "extra": 0, "sum": 4.0}] * 4
    assert dict(config) == {"history": [0.5]}
    assert sorted(content) == ["arrays", "config"]
    assert arrays["w"].numpy().tolist() == [1, 1, 1, 1]


def test_a_client_that_keeps_its_reply_cannot_change_what_the_server_got() -> None:
    kept: list[list[float]] = []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"losses": [1.0]})
        losses = metrics["losses"]
        assert isinstance(losses, list)
        kept.append(losses)  # type: ignore[arg-type]
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    with LocalGrid(app, 1) as grid:
        (reply,) = grid.send_and_receive(ask(grid, RecordDict()))
    kept[0].append(2.0)
    assert dict(reply.content["metrics"]) == {"losses": [1.0]}


def test_bytes_are_shared_and_not_copied_on_both_ways() -> None:
    seen: list[bytes] = []
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content.array_records["arrays"]
        seen.append(arrays["0"].data)
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    arrays = ArrayRecord([np.zeros(1000)])
    # Computing an object id leaves a memoryview in the array, which copy.deepcopy cannot copy.
    assert arrays["0"].object_id
    with LocalGrid(app, 2) as grid:
        replies = grid.send_and_receive(ask(grid, RecordDict({"arrays": arrays})))
    data = arrays["0"].data
    assert all(received is data for received in seen)
    assert all(r.content.array_records["arrays"]["0"].data is data for r in replies)


def test_a_buffer_that_can_change_is_copied() -> None:
    record = ArrayRecord({"w": Array(np.zeros(3))})
    buffer = bytearray(record["w"].data)
    record["w"].data = buffer  # type: ignore[assignment]
    twin = copy_records(RecordDict({"arrays": record}))
    buffer[-8:] = np.ones(1).tobytes()
    assert twin.array_records["arrays"]["w"].numpy().tolist() == [0, 0, 0]


def test_an_array_keeps_its_object_id_until_its_copy_is_changed() -> None:
    record = ArrayRecord({"w": Array(np.zeros(3))})
    array = record["w"]
    before = array.object_id
    twin = copy_records(RecordDict({"arrays": record}))
    copied = twin.array_records["arrays"]["w"]
    assert copied.object_id == before
    copied.data = Array(np.ones(3)).data
    assert copied.object_id != before
    assert array.object_id == before


def test_an_error_message_is_copied_with_metadata_of_its_own() -> None:
    set_task_identity(1, 0)
    metadata = Message(RecordDict(), 1, "train").metadata
    message = build_message(metadata, error=Error(2, "no rows"))
    twin = copy_message(message)
    twin.metadata.group_id = "changed"
    assert (twin.error.code, twin.error.reason) == (2, "no rows")
    assert message.metadata.group_id == ""


metrics = st.integers(0, 9) | st.floats(allow_nan=False) | st.lists(st.integers(0, 9))
configs = metrics | st.booleans() | st.text() | st.binary() | st.lists(st.text())


@given(st.dictionaries(st.text(), metrics), st.dictionaries(st.text(), configs))
def test_a_copy_equals_its_original_and_shares_no_list(
    metric_values: dict[str, int | float | list[int]],
    config_values: dict[str, bool | str | bytes | int | float | list[int] | list[str]],
) -> None:
    records = RecordDict(
        {
            "metrics": MetricRecord(metric_values),  # type: ignore[arg-type]
            "config": ConfigRecord(config_values),  # type: ignore[arg-type]
        }
    )
    twin = copy_records(records)
    assert twin == records
    for name, record in records.items():
        for key, value in record.items():
            copied = twin[name][key]
            assert type(copied) is type(value)
            assert not isinstance(value, list) or copied is not value
