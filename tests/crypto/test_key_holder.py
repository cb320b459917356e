"""A key holder opens one sum per round and step, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qfl.crypto import Header, KeyHolder, pack
from qfl.errors import OpeningRefusedError, PayloadError


@pytest.fixture
def holder(small: Any) -> KeyHolder:
    return KeyHolder("run-1", small.scheme, small.keys, min_clients=2)


@pytest.fixture
def header(small: Any) -> Header:
    return Header("ckks", small.keys.key_id, "run-1", 1, "train", 3, contributions=2)


@pytest.fixture
def body(small: Any) -> bytes:
    return bytes(small.sum_of([np.array([1, -2, 3]), np.array([10, 20, 30])]))


def test_it_opens_a_sum(holder: KeyHolder, header: Header, body: bytes) -> None:
    assert holder.open(pack(header, body)).tolist() == [11, 18, 33]


def test_asked_again_for_the_same_sum_it_answers_the_same(
    holder: KeyHolder, header: Header, body: bytes
) -> None:
    payload = pack(header, body)
    assert [holder.open(payload).tolist() for _ in range(3)] == [[11, 18, 33]] * 3
    assert len(holder.opened) == 1


def test_another_sum_of_the_same_step_is_refused(
    small: Any, holder: KeyHolder, header: Header, body: bytes
) -> None:
    holder.open(pack(header, body))
    other = small.sum_of([np.array([1, -2, 3]), np.array([10, 20, 31])])
    for payload in (
        pack(header, other),
        pack(replace(header, contributions=3), body),
        pack(replace(header, contributions=3), other),
    ):
        with pytest.raises(
            OpeningRefusedError, match="another sum was already opened for round 1, step train"
        ):
            holder.open(payload)
    assert holder.open(pack(header, body)).tolist() == [11, 18, 33]


def test_other_rounds_and_steps_are_opened(holder: KeyHolder, header: Header, body: bytes) -> None:
    for place in (header, replace(header, round=2), replace(header, step="evaluate")):
        assert holder.open(pack(place, body)).tolist() == [11, 18, 33]
    assert sorted(holder.opened) == ["1/evaluate", "1/train", "2/train"]


@pytest.mark.parametrize("contributions", [0, 1])
def test_fewer_than_min_clients_are_refused(
    holder: KeyHolder, header: Header, body: bytes, contributions: int
) -> None:
    with pytest.raises(
        OpeningRefusedError,
        match=rf"a sum of {contributions} updates in round 1; at least 2 are needed",
    ):
        holder.open(pack(replace(header, contributions=contributions), body))
    assert holder.opened == {}


def test_more_updates_than_the_parameters_are_sound_for_are_refused(
    holder: KeyHolder, header: Header, body: bytes
) -> None:
    most = holder.scheme.sums.additions
    with pytest.raises(OpeningRefusedError, match=f"sound for at most {most}"):
        holder.open(pack(replace(header, contributions=most + 1), body))
    assert holder.opened == {}


@pytest.mark.parametrize(
    ("field", "value"), [("run", "run-2"), ("scheme", "plain"), ("key_id", "0" * 16)]
)
def test_foreign_sums_are_refused_with_both_sides_named(
    holder: KeyHolder, header: Header, body: bytes, field: str, value: str
) -> None:
    with pytest.raises(OpeningRefusedError) as refusal:
        holder.open(pack(replace(header, **{field: value}), body))  # type: ignore[arg-type]
    ours = getattr(header, field)
    assert f"with {field}='{value}'; this key holder opens {field}='{ours}'" in str(refusal.value)
    assert holder.opened == {}


def test_a_malformed_sum_is_refused_and_does_not_use_up_the_step(
    holder: KeyHolder, header: Header, body: bytes
) -> None:
    for payload in (
        b"nonsense",
        pack(header, body[:-1]),
        pack(header, b""),
        pack(replace(header, length=10**15), body),
        pack(header, body)[:-1],
    ):
        with pytest.raises(PayloadError):
            holder.open(payload)
    assert holder.opened == {}
    assert holder.open(pack(header, body)).tolist() == [11, 18, 33]


def test_the_record_of_openings_survives_serialisation(
    small: Any, holder: KeyHolder, header: Header, body: bytes
) -> None:
    holder.open(pack(header, body))
    kept = json.loads(holder.opened_json())
    revived = KeyHolder("run-1", small.scheme, small.keys, 2, kept)
    assert revived.open(pack(header, body)).tolist() == [11, 18, 33]
    other = small.sum_of([np.array([0, 0, 1]), np.array([0, 0, 0])])
    with pytest.raises(OpeningRefusedError, match="another sum was already opened"):
        revived.open(pack(header, other))
    assert revived.opened_json() == holder.opened_json()


def test_each_run_gets_new_keys(small: Any) -> None:
    first = KeyHolder.create("a", small.scheme, 2)
    second = KeyHolder.create("b", small.scheme, 2)
    assert first.keys.key_id != second.keys.key_id


def test_its_repr_holds_no_key_bytes(holder: KeyHolder) -> None:
    assert repr(holder) == f"KeyHolder(run='run-1', key_id='{holder.keys.key_id}')"
