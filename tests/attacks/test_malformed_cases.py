"""Malformed messages by which a particular line of code could fall, one by one."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from malformed_arrays import npy, read_array
from receivers import LENGTH, ROUND, RUN, OneRun
from receivers_records import ASKED, START, Run, model_bytes

from qfl.crypto import Header, KeyHolder, Step, SumRange, lock, make_scheme, pack
from qfl.crypto.rlwe_bits import pack_bits
from qfl.crypto.sealing import derive
from qfl.errors import ConfigError, CryptoError
from qfl.records import MODEL, bytes_record
from qfl.server_optimizer import OPTIMIZERS, optimizer_from_json

SUMS = SumRange(15, 1.0, 3)
NO_TEXT = "\ud800"  # half of a pair: JSON has a way to write it, UTF-8 has none
NUMBERS = ("round", "longest", "additions", "min_clients", "clients", "examples", "attempt")


@lru_cache
def training(scheme: str) -> Run:
    return Run(scheme, {"plain": "none", "ckks": "key_holder"}.get(scheme, "shared"))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x93NUMPY", b"\x93NUMPY\x01\0\x10\0" + b"(" * 16, b"PK\x03\x04" + bytes(40)),
        *(npy("(3,)", "<i8,("), npy("(1180591620717411303424,)"), npy("(-3,)"), npy("3")),
        *(npy("(1,)", "|O", bytes(8)), npy("(3,)[", data=bytes(24)), npy("-" * 3000 + "1")),
        *(npy("(3,)", "<i8", bytes(23)), b"\x80\x04K\x01.", b"PK\x05\x06" + bytes(18)),
    ],
)
def test_an_array_that_cannot_be_read_is_refused(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about old files
        with pytest.raises(CryptoError, match="the arrays of a message cannot be read"):
            read_array(data)


def largest_body(form: Any) -> bytes:
    """Every coefficient is the largest number that travels."""
    parts = []
    for section in form.sections:
        largest = (section.prime - 1) >> section.drop
        for row in range(section.rows):
            count = section.last if row == section.rows - 1 else section.degree
            parts.append(pack_bits(np.full((1, count), largest, np.uint64), section.width))
    return b"".join([*parts, *(bytes([row]) * 64 for row in range(form.rows * form.seeded))])


@pytest.mark.parametrize("length", [3, 20_000])
@pytest.mark.parametrize("trust", ["key_holder", "shared"])
@pytest.mark.parametrize("scheme", ["ckks", "packed"])
def test_coefficients_at_the_edge_of_their_range_open_to_something(
    scheme: str, trust: str, length: int
) -> None:
    """What dropped bits stand for may lie past the prime there."""
    made: Any = make_scheme(scheme, length, SUMS, trust)
    keys = made.generate_keys()
    total = made.accumulator(length, keys.public)
    total.add(largest_body(made._contribution(length)))
    for body in (total.result(), largest_body(made._total(length))):
        try:
            values = made.open(body, length, keys.secret)
        except CryptoError:
            continue
        assert values.shape == (length,) and np.abs(values).max() <= 2 * SUMS.capacity


@pytest.mark.parametrize("label", ["ckks/shared", "packed/key_holder", "hybrid/key_holder"])
def test_a_key_holder_refuses_a_place_that_is_no_text(label: str) -> None:
    run = OneRun(*label.split("/"))
    holder = KeyHolder(RUN, run.scheme, run.keys, 3, roster=run.roster)
    header = Header(run.scheme.name, run.keys.key_id, RUN, ROUND, NO_TEXT, LENGTH, 3)
    with pytest.raises(CryptoError) as refusal:
        holder.open(pack(header, run.total(run.honest).result()))
    assert str(refusal.value).encode()


@pytest.mark.parametrize(
    "name", ["run", "label", "scheme", "trust", "key_id", "release", "step", "metrics"]
)
def test_a_step_with_a_name_that_is_no_text_is_refused(name: str) -> None:
    value = ["loss", NO_TEXT] if name == "metrics" else NO_TEXT
    values = json.loads(ASKED.to_json()) | {"step": "sum", name: value}
    with pytest.raises(CryptoError) as refusal:
        Step.from_json(json.dumps(values))
    assert str(refusal.value).encode()


@pytest.mark.parametrize("digits", [20, 400, 4300])
@pytest.mark.parametrize("name", [*NUMBERS, "fraction_bits", "bound"])
@pytest.mark.parametrize("scheme", ["plain", "ckks", "packed", "hybrid"])
def test_a_step_with_a_huge_number_is_taken_or_refused(scheme: str, name: str, digits: int) -> None:
    run = training(scheme)
    values = json.loads(run.step.to_json()) | {name: int("9" * digits)}
    with suppress(CryptoError, ConfigError):
        run.nodes[0].ask(json.dumps(values), run.model, run.told, keep=False)


@pytest.mark.parametrize("value", ["1e999", "NaN", "1" + "0" * 400, "1e300", "-1e300", "true"])
@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("name", ["lr", "tau"])
def test_an_optimizer_of_odd_numbers_goes_on_or_is_refused(
    name: str, rule: str, value: str
) -> None:
    try:
        made = optimizer_from_json(f'{{"name": "{rule}", "{name}": {value}}}')
    except CryptoError:
        return
    state, model = made.apply(made.init(3), np.ones(3), np.ones(3))
    assert {part.dtype for part in [*state.values(), model]} == {np.dtype(np.float64)}


@pytest.mark.parametrize(
    "names", [b"[" * 200_000, b'{"a":' * 99_999, b"9" * 5000, b"[[]]", b"null", b"\xff", b'["x"]']
)
def test_a_model_that_a_member_locked_and_nobody_can_read_is_refused(names: bytes) -> None:
    run = Run("hybrid", "key_holder", "clients")
    key, info = derive(run.boxed(), b"qfl model key", 32), f"qfl model {run.step.run}".encode()
    locked = lock(key, model_bytes(START, names), info)
    with pytest.raises(CryptoError, match="the locked model cannot be read"):
        run.train(**{MODEL: bytes_record(locked, "model")})
