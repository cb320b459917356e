"""What contributions are bound to, taken apart: collisions, ways around, and what is left out.

A contribution under ``hybrid`` is good for one place, and the place stands for all that its client
was told and sent. Two clients that were told different things must not end up at one place.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from hostile import LENGTH, Server
from hostile_committee import CommitteeServer

from qfl.errors import CryptoError
from qfl.records import (
    PAYLOAD,
    PROTECTED,
    bytes_record,
    content_digest,
    record_bytes,
    record_of,
)

PAIRS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]


def make(scheme: str, trust: str, release: str = "server") -> Server:
    kind = CommitteeServer if trust == "committee" else Server
    return kind.of(scheme, trust, release)


def test_two_stories_of_one_place_cannot_be_found_by_trying() -> None:
    """Whoever tells both needs a collision: of 64 bits that takes 2^32 attempts."""
    step = make("hybrid", "key_holder").step("train", 1)
    assert 4 * len(step.weights) >= 256
    assert 4 * len(content_digest({})) >= 256


def digest_of(**records: Any) -> str:
    return content_digest({name.replace("_", "-"): record for name, record in records.items()})


W = record_of({"w": np.zeros(LENGTH)})


@pytest.mark.parametrize(
    "other",
    [
        {"arrays": record_of({"w": np.ones(LENGTH)})},
        {"arrays": record_of({"w": np.zeros(LENGTH + 1)})},
        {"arrays": record_of({"w": np.zeros(LENGTH, dtype=np.float32)})},
        {"arrays": record_of({"w": np.zeros((LENGTH, 1))})},
        {"arrays": record_of({"v": np.zeros(LENGTH)})},
        {"arrays": record_of({"w": np.zeros(LENGTH), "v": np.zeros(1)})},
        {"arrays": ArrayRecord()},
        {"model": W},
        {"arrays": W, "config": ConfigRecord({"lr": 0.1})},
        {"arrays": W, "config": ConfigRecord({"lr": 0.2})},
        {"arrays": W, "config": ConfigRecord({"lr": "0.1"})},
        {"arrays": W, "config": ConfigRecord({"rl": 0.1})},
        {"arrays": W, "settings": ConfigRecord({"lr": 0.1})},
        {},
    ],
)
def test_every_difference_is_in_the_digest(other: dict[str, Any]) -> None:
    settings = ConfigRecord({"lr": 0.1})
    assert digest_of(**other) != digest_of(arrays=W)
    assert (digest_of(**other) == digest_of(arrays=W, config=settings)) == (
        list(other) == ["arrays", "config"] and dict(other["config"]) == {"lr": 0.1}
    )


def test_order_is_part_of_a_model_and_not_of_settings() -> None:
    first, second = np.zeros(1), np.ones(1)
    one, other = {"a": first, "b": second}, {"b": second, "a": first}
    assert digest_of(arrays=record_of(one)) != digest_of(arrays=record_of(other))
    swapped = ConfigRecord({"x": 1, "y": 2}), ConfigRecord({"y": 2, "x": 1})
    assert len({digest_of(config=record) for record in swapped}) == 1


def test_one_record_s_name_cannot_stand_for_two_records() -> None:
    """Settings that an app finds, or does not find, under one digest."""
    settings, none = ConfigRecord({"lr": 1e-30}), ConfigRecord()
    two = {"config": settings, "d": none}
    head = f"config\0ConfigRecord\0{sorted(settings.items())!r}"
    assert content_digest(two) != content_digest({f"{head}d": none})


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
@pytest.mark.parametrize("name", ["qfl-arrays", "qflmodel"])
def test_a_model_under_a_name_like_qfl_s_own(trust: str, name: str) -> None:
    """An app that takes the only array record trains on it."""
    server: Any = make("hybrid", trust)
    node = server.nodes[1]
    places = set()
    for value in (0.0, 1.0):
        records = {name: record_of({"w": np.full(LENGTH, value)})}
        asked = server.step("train", 1, content="")
        try:
            reply = node.ask(asked, records | server.told)
        except CryptoError:
            return  # refused is as good
        header = record_bytes(reply, PAYLOAD).split(b'"terms": "')[1].split(b'"')[0]
        places.add(header)
    assert len(places) == 2


@pytest.mark.parametrize("release", ["server", "clients"])
@pytest.mark.parametrize(("scheme", "trust"), [*PAIRS, ("hybrid", "committee")])
def test_a_choice_of_what_is_protected_that_comes_later(
    scheme: str, trust: str, release: str
) -> None:
    """All but one coordinate in the clear, of updates that were protected as a whole before."""
    server = make(scheme, trust, release)
    server.train(server.nodes[1])
    mask = struct.pack("<I", LENGTH) + np.packbits([1] + [0] * (LENGTH - 1)).tobytes()
    server.told[PROTECTED] = bytes_record(mask, "told")
    with pytest.raises(CryptoError):
        server.train(server.nodes[1], 2)
