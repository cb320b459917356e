"""One client's answer to any step is not what belongs there: the run goes on, and it is right.

Beside the places of ``test_malicious_client.py`` these are the others, with what each may hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from evil_client import BAD, mean_of, put, raw, run
from flwr.app import Array, ArrayRecord, MetricRecord

from qfl.records import MEMBER, PAYLOAD, VOUCHED, VOUCHED_MEMBERS

FAR = {"client": 2**62, "key-holder": -5, "index": -(2**62)}


def one_bit(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


RECORDS: dict[str, Callable[[bytes], Any]] = {
    "missing": lambda data: None,
    "far numbers": lambda data: MetricRecord(dict(FAR)),
    "another name": lambda data: ArrayRecord({"other": Array(np.zeros(3))}),
    "half": lambda data: raw(data[: len(data) // 2]),
    "zeros": lambda data: raw(bytes(len(data))),
    "one bit": lambda data: raw(one_bit(data)),
    "many empty lists": lambda data: raw(
        b"\x9a" + (200_000).to_bytes(4, "big") + b"\x80" * 200_000
    ),
}
ROLES = ("missing", "far numbers", "another name")
# Shares that are well formed, and false.
SHARES = ("zeros", "one bit")

# Before its update is in, a client that answers like this is left out; afterwards it is not needed.
LEFT_OUT = [
    *(("ckks", "key_holder", "hello", "roles", record) for record in ROLES),
    *(
        (*place, record)
        for place in [
            ("hybrid", "shared", "hello", MEMBER),
            ("hybrid", "shared", "hello", VOUCHED_MEMBERS),
            ("packed", "shared", "train", VOUCHED),
            ("hybrid", "committee", "train", PAYLOAD),
            ("masking", "none", "deal", PAYLOAD),
        ]
        for record in RECORDS
    ),
]
NOT_NEEDED = [
    *(("hybrid", "committee", "open", PAYLOAD, record) for record in SHARES),
    *(("masking", "none", step, PAYLOAD, one) for step in ("agree", "reveal") for one in RECORDS),
]


@pytest.mark.parametrize(("scheme", "trust", "step", "name", "record"), LEFT_OUT)
def test_it_is_left_out(scheme: str, trust: str, step: str, name: str, record: str) -> None:
    ran = run(scheme, trust, step, put(name, RECORDS[record]))
    assert ran.clients == [3]
    assert ran.model == mean_of(0, 1, 3)
    assert ran.problems.keys() == ({BAD + 1} if step == "train" else set())


@pytest.mark.parametrize(("scheme", "trust", "step", "name", "record"), NOT_NEEDED)
def test_the_others_open_the_sum(
    scheme: str, trust: str, step: str, name: str, record: str
) -> None:
    ran = run(scheme, trust, step, put(name, RECORDS[record]))
    assert (ran.clients, ran.problems) == ([4], {})
    assert ran.model == mean_of(0, 1, 2, 3)
