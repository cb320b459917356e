"""Floors: what a node refuses, that it says so naming both sides, and what no floor can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings

from qfl.conf.trust import RELEASES, TRUSTS
from qfl.crypto.step import STEPS, Step
from qfl.errors import ConfigError, RefusedError
from qfl.identity.floor import Floor
from qfl.identity.refusal import Refusal

TRAIN = Step(
    step="train",
    run="7",
    round=1,
    label="train",
    scheme="ckks",
    key_id="k",
    longest=10,
    fraction_bits=20,
    bound=2.0,
    additions=8,
    min_clients=2,
    clients=3,
    examples=0,
)


def refusal(check: Callable[[], None]) -> str:
    with pytest.raises(RefusedError) as caught:
        check()
    assert caught.value.reason is Refusal.FLOOR
    return str(caught.value)


def test_by_default_only_what_is_protected_is_accepted() -> None:
    pairs = [(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]
    accepted = set()
    for scheme, trust in pairs:
        for release in RELEASES:
            step = replace(TRAIN, scheme=scheme, trust=trust, release=release)
            if scheme == "plain":
                assert "scheme 'plain'" in refusal(lambda step=step: Floor().check(step))
            else:
                Floor().check(step)
                accepted.add(scheme)
    assert accepted == {"ckks", "packed", "hybrid", "masking"}


def test_plain_is_accepted_by_who_says_so() -> None:
    Floor(schemes=("plain",)).check(replace(TRAIN, scheme="plain", trust="none"))


@pytest.mark.parametrize(
    ("floor", "asked", "words"),
    [
        (
            Floor(schemes=("ckks", "packed")),
            {"scheme": "plain", "trust": "none"},
            "the server asks for scheme 'plain'; this client requires ckks or packed",
        ),
        (
            Floor(schemes=("packed",)),
            {},
            "the server asks for scheme 'ckks'; this client requires packed",
        ),
        (
            Floor(trusts=("key_holder", "committee")),
            {"trust": "shared"},
            "the server asks for trust 'shared'; this client requires key_holder or committee",
        ),
        (
            Floor(trusts=("key_holder",)),
            {"scheme": "masking", "trust": "none"},
            "the server asks for trust 'none'; this client requires key_holder",
        ),
        (
            Floor(releases=("clients",)),
            {"release": "server"},
            "the server asks for release 'server'; this client requires clients",
        ),
        (
            Floor(releases=("server",)),
            {"release": "clients"},
            "the server asks for release 'clients'; this client requires server",
        ),
        (
            Floor(),
            {"min_clients": 1},
            "the server asks for min_clients=1; this client requires at least 2",
        ),
        (
            Floor(min_clients=5),
            {"min_clients": 4, "clients": 9},
            "the server asks for min_clients=4; this client requires at least 5",
        ),
        (
            Floor(min_clients=5),
            {"min_clients": 5, "clients": 4},
            "the server asks for clients=4; this client requires at least 5",
        ),
    ],
    ids=range(9),
)
def test_weaker_terms_are_refused_by_name(floor: Floor, asked: dict[str, Any], words: str) -> None:
    assert refusal(lambda: floor.check(replace(TRAIN, **asked))) == words


@pytest.mark.parametrize("kind", STEPS)
def test_how_many_clients_there_are_counts_once_they_met(kind: str) -> None:
    floor, step = Floor(min_clients=3), replace(TRAIN, step=kind, min_clients=3, clients=1)
    if kind in ("sum", "train", "evaluate", "open"):
        assert "clients=1" in refusal(lambda: floor.check(step))
    else:
        floor.check(step)
    floor.check(replace(step, clients=3))
    # How few may be in a sum counts from the first word on.
    assert "min_clients=2" in refusal(lambda: floor.check(replace(step, min_clients=2)))


@pytest.mark.parametrize(
    ("clear", "share", "words"),
    [
        (0.0, 0.25, "the server asks for 25% of the update in the clear; this client allows at"),
        (0.0, 1.0, "asks for 100% of the update in the clear; this client allows at most 0%"),
        (0.0, 0.0004, "asks for 0.04% of the update in the clear; this client allows at most 0%"),
        (0.5, 0.75, "asks for 75% of the update in the clear; this client allows at most 50%"),
        (1.0, float("nan"), "this client allows at most 100%"),
    ],
    ids=range(5),
)
def test_a_larger_part_in_the_clear_is_refused(clear: float, share: float, words: str) -> None:
    assert words in refusal(lambda: Floor(clear=clear).check_clear(share))


def test_what_may_travel_in_the_clear_does() -> None:
    Floor().check_clear(0.0)
    Floor(clear=0.5).check_clear(0.5)
    Floor(clear=1).check_clear(1.0)


@pytest.mark.parametrize("schemes", [("ckks",), ("plain",), ("masking", "hybrid")], ids=str)
def test_a_server_without_terms_is_refused(schemes: tuple[str, ...]) -> None:
    assert refusal(Floor(schemes=schemes).check_unprotected) == (
        "the server asks for an unprotected reply; this client requires scheme "
        + " or ".join(schemes)
    )


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"schemes": ["ckk"]}, "schemes: unknown name 'ckk'; did you mean 'ckks'?"),
        ({"schemes": []}, "schemes is empty, so nothing would be accepted; name some of ckks"),
        ({"schemes": "ckks"}, "schemes='ckks' must be a list of names"),
        ({"schemes": [1]}, "schemes=(1,) must be a list of names"),
        ({"schemes": None}, "schemes=None must be a list of names"),
        ({"trusts": ["keyholder"]}, "trusts: unknown name 'keyholder'; did you mean 'key_holder'?"),
        ({"trusts": []}, "trusts is empty"),
        ({"releases": ["client"]}, "releases: unknown name 'client'; did you mean 'clients'?"),
        ({"releases": []}, "releases is empty"),
        ({"min_clients": 1}, "min_clients=1 must be a whole number >= 2"),
        ({"min_clients": -3}, "min_clients=-3 must be"),
        ({"min_clients": 2.0}, "min_clients=2.0 must be"),
        ({"min_clients": True}, "min_clients=True must be"),
        ({"min_clients": "3"}, "min_clients='3' must be"),
        ({"clear": -0.1}, "clear=-0.1 must be a share from 0 to 1"),
        ({"clear": 1.1}, "clear=1.1 must be"),
        ({"clear": float("nan")}, "clear=nan must be"),
        ({"clear": False}, "clear=False must be"),
        ({"clear": "0"}, "clear='0' must be"),
        ({"scheme": ["ckks"]}, "unknown key 'scheme'; did you mean 'schemes'?"),
        ({7: 1}, "unknown key '7'"),
        (
            {"schemes": ["masking"], "trusts": ["committee"]},
            "schemes masking go with none of trusts committee",
        ),
        (
            {"schemes": ["masking"], "releases": ["clients"]},
            "releases clients goes with none of schemes masking",
        ),
        ([], "a map was expected, not list"),
        (None, "a map was expected, not NoneType"),
    ],
    ids=range(25),
)
def test_floors_that_cannot_be(settings_: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Floor.from_dict(settings_)
    assert str(caught.value).startswith("floor: ") and words in str(caught.value)


def test_the_constructor_refuses_the_same() -> None:
    for make in (
        lambda: Floor(schemes=("ckk",)),
        lambda: Floor(trusts=()),
        lambda: Floor(min_clients=1),
        lambda: Floor(clear=2.0),
    ):
        with pytest.raises(ConfigError):
            make()


def test_what_is_left_out_is_as_unless_set() -> None:
    assert Floor.from_dict({}) == Floor()
    assert Floor().to_dict() == {
        "schemes": ["ckks", "packed", "hybrid", "masking"],
        "trusts": ["key_holder", "committee", "shared", "none"],
        "releases": ["server", "clients"],
        "min_clients": 2,
        "clear": 0.0,
    }


def some(names: Any) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(sorted(names)), min_size=1, unique=True).map(tuple)


@settings(max_examples=60, deadline=None)
@given(
    some(TRUSTS),
    some({"none", "key_holder", "shared", "committee"}),
    some(RELEASES),
    st.integers(2, 9),
    st.floats(0, 1),
    st.sampled_from([(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]),
    st.sampled_from(RELEASES),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_a_floor_travels_as_json_and_accepts_just_what_it_names(
    schemes: tuple[str, ...],
    trusts: tuple[str, ...],
    releases: tuple[str, ...],
    least: int,
    clear: float,
    pair: tuple[str, str],
    release: str,
    min_clients: int,
    clients: int,
) -> None:
    try:
        floor = Floor(schemes, trusts, releases, least, clear)
    except ConfigError:
        assume(False)
    again = Floor.from_dict(json.loads(json.dumps(floor.to_dict())))
    assert again == floor
    step = replace(
        TRAIN,
        scheme=pair[0],
        trust=pair[1],
        release=release,
        min_clients=min_clients,
        clients=clients,
    )
    meets = (
        pair[0] in schemes
        and pair[1] in trusts
        and release in releases
        and min(min_clients, clients) >= least
    )
    if meets:
        again.check(step)
    else:
        refusal(lambda: again.check(step))
