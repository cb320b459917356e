"""Terms travel as text and are checked; a floor refuses weaker ones by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfl.errors import PrivacyError
from qfl.privacy import PrivacyFloor, Terms

ROOM: dict[str, Any] = {"length": 10, "clients": 4, "min_clients": 3, "fraction_bits": 20}


@given(
    mechanism=st.sampled_from(["dpsgd", "central", "distributed", "local"]),
    noise_multiplier=st.floats(0, 100),
    clipping_norm=st.floats(1e-3, 10),
    colluders=st.integers(0, 5),
    epsilon=st.floats(0, 50),
    delta=st.floats(1e-12, 0.5),
)
def test_terms_come_back_as_they_were(**fields: Any) -> None:
    terms = Terms(largest_norm=10.0, **fields)
    assert Terms.from_json(terms.to_json()) == terms


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mechanism", "none"),
        ("mechanism", "centrall"),
        ("noise", "laplace"),
        ("accountant", "gdp"),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.inf),
        ("noise_multiplier", math.nan),
        ("noise_multiplier", "1"),
        ("noise_multiplier", True),
        ("clipping_norm", 0.0),
        ("clipping_norm", 2.0),  # beyond the largest
        ("largest_norm", math.inf),
        ("colluders", -1),
        ("colluders", 1.5),
        ("rounds", 0),
        ("epsilon", -1.0),
        ("delta", 0.0),
        ("delta", 1.0),
        ("target_quantile", 1.0),
        ("clipping_lr", 0.0),
        ("count_noise", -1.0),
        ("surprise", 1),
    ],
)
def test_malformed_terms_are_refused(field: str, value: Any) -> None:
    values = json.loads(Terms("central", noise_multiplier=1.0).to_json()) | {field: value}
    with pytest.raises(PrivacyError):
        Terms.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "1", '{"mechanism": "central"}', "[" * 9999]
)
def test_what_are_no_terms_is_refused(text: str) -> None:
    with pytest.raises(PrivacyError, match="cannot be read"):
        Terms.from_json(text)


def test_shares_are_those_of_honest_clients() -> None:
    assert (
        Terms("distributed", noise_multiplier=1.0, colluders=1).level(place="", **ROOM).shares == 2
    )
    assert Terms("central", noise_multiplier=1.0, colluders=1).level(place="", **ROOM).shares == 1
    with pytest.raises(PrivacyError, match="leaves nobody"):
        Terms("distributed", noise_multiplier=1.0, colluders=3).level(place="", **ROOM)


def test_another_place_is_another_rotation() -> None:
    terms = Terms("central", noise_multiplier=1.0)
    seeds = {terms.level(place=place, **ROOM).seed for place in ("run/1/train/0", "run/2/train/0")}
    assert len(seeds) == 2


def test_the_clipping_norm_follows_and_stays_below_the_largest() -> None:
    terms = Terms("central", largest_norm=1.5, count_noise=1.0)
    # Nobody within: up by exp(0.2 / 2) = 1.105; all within: down by as much.
    assert terms.after(0.0).clipping_norm == pytest.approx(1.1051709)
    assert terms.after(1.0).clipping_norm == pytest.approx(0.9048374)
    for _ in range(10):
        terms = terms.after(0.0)
    assert terms.clipping_norm == 1.5


@pytest.mark.parametrize(
    ("floor", "terms", "words"),
    [
        (PrivacyFloor(), None, "without differential privacy"),
        (PrivacyFloor(("central",)), Terms("local"), "mechanism local"),
        (PrivacyFloor(noise_multiplier=1.0), Terms("central", noise_multiplier=0.9), "at least 1"),
        (PrivacyFloor(clipping_norm=0.5), Terms("central"), "clipping_norm of at most 0.5"),
        (PrivacyFloor(epsilon=3.0), Terms("central", epsilon=4.0), "epsilon of at most 3"),
        (PrivacyFloor(epsilon=3.0), Terms("central"), "no budget"),
        (PrivacyFloor(delta=1e-6), Terms("dpsgd", delta=1e-5), "delta of at most 1e-06"),
        (PrivacyFloor(honest=3), Terms("distributed", colluders=1), "at least 3"),
    ],
)
def test_weaker_terms_are_refused_by_name(
    floor: PrivacyFloor, terms: Terms | None, words: str
) -> None:
    with pytest.raises(PrivacyError) as refused:
        floor.check(terms, min_clients=3)
    assert words in str(refused.value)


def test_terms_at_the_floor_are_taken() -> None:
    floor = PrivacyFloor(("distributed",), 1.0, 0.5, 0.1, 3.0, 1e-5, 2)
    terms = Terms(
        "distributed",
        noise_multiplier=1.0,
        clipping_norm=0.5,
        epsilon=3.0,
        delta=1e-5,
        colluders=1,
    )
    floor.check(terms, min_clients=3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((0.9, 1.0, 0.1), "noise_multiplier=0.9; this client requires at least 1"),
        ((1.0, 1.1, 0.1), "clipping_norm=1.1"),
        ((1.0, 1.0, 0.2), "sample_rate=0.2"),
    ],
)
def test_weaker_training_is_refused_by_name(asked: tuple[float, float, float], words: str) -> None:
    floor = PrivacyFloor(("dpsgd",), noise_multiplier=1.0, clipping_norm=1.0, sample_rate=0.1)
    with pytest.raises(PrivacyError, match=words):
        floor.check_training(*asked)
    floor.check_training(1.0, 1.0, 0.1)
    with pytest.raises(PrivacyError, match="mechanism dpsgd"):
        PrivacyFloor(("central",)).check_training(9.0, 0.1, 0.1)
