"""What a server asks for under differential privacy, and must not get.

Nothing without noise, no noise twice, and nothing that was not paid for: from a client that made up
its mind by its own settings, and from a holder that was told another story than the clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import CLIENTS, LENGTH
from privacy_server import (
    PADDED,
    WIDTH,
    contribution,
    contributions,
    ledger_of,
    open_from,
    private,
    promise,
    without_noise,
)

from qfl.errors import CryptoError, OpeningRefusedError, PayloadError, PrivacyError, QflError
from qfl.privacy import PrivacyFloor, Terms
from qfl.records import PROTECTED, bytes_record

HOLDERS = [(s, t) for s in ("ckks", "packed", "hybrid") for t in ("key_holder", "shared")]
OPENERS = [*HOLDERS, ("hybrid", "committee")]
SIGNED = [("hybrid", "key_holder"), ("hybrid", "shared")]


def refused(ask: Callable[[], Any], *words: str) -> None:
    """Make sure that a request is refused, with these words."""
    with pytest.raises(QflError) as refusal:
        ask()
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(("scheme", "trust"), OPENERS)
def test_an_honest_server_gets_a_sum_with_noise(scheme: str, trust: str, tmp_path: Path) -> None:
    """Noise of one norm, which is 0.2 * 2^14 = 3277 steps; none would be off by 4 at most."""
    server = private(scheme, trust, promise(), tmp_path)
    values = open_from(server, contributions(server))
    off = values[:PADDED] - without_noise(server)
    assert 100 < np.linalg.norm(off) / PADDED**0.5 < 10_000
    assert values[PADDED:].tolist() == [4 * round(2**14 / 5)]


@pytest.mark.parametrize(("scheme", "trust"), OPENERS)
def test_noise_is_drawn_once_for_a_sum(scheme: str, trust: str, tmp_path: Path) -> None:
    """The mean of a hundred answers would be the sum."""
    server = private(scheme, trust, promise(), tmp_path)
    bodies = contributions(server)
    first = open_from(server, bodies).tolist()
    for _ in range(2):
        assert open_from(server, bodies).tolist() == first
    for other in (bodies[:3], bodies[1:]):
        with pytest.raises(CryptoError):
            open_from(server, other)


@pytest.mark.parametrize(("scheme", "trust"), HOLDERS)
@pytest.mark.parametrize(
    "header", [{"attempt": 1}, {"step": "evaluate"}, {"step": "count"}, {"round": 0}]
)
def test_a_sum_is_not_opened_again_under_another_name(
    scheme: str, trust: str, header: dict[str, Any], tmp_path: Path
) -> None:
    server = private(scheme, trust, promise(), tmp_path)
    bodies = contributions(server)
    open_from(server, bodies)
    with pytest.raises(CryptoError):
        open_from(server, bodies, header=header)


def test_a_share_of_the_noise_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    """Of what each client adds, a third is enough where three are summed, and not on its own."""
    terms = promise("distributed")
    server = private("plain", "none", terms, tmp_path)
    refused(lambda: contribution(server, server.nodes[1]), "distributed", "plain")
    assert ledger_of(tmp_path).count == 0


@pytest.mark.parametrize("mechanism", ["central", "distributed", "local"])
def test_no_part_of_a_private_update_is_sent_in_the_clear(mechanism: str, tmp_path: Path) -> None:
    server = private(
        "hybrid", "key_holder", promise(mechanism, noise_multiplier=0.1), tmp_path, bound=8.0
    )
    for size in (LENGTH, PADDED):
        mask = size.to_bytes(4, "little") + np.packbits([1] + [0] * (size - 1)).tobytes()
        told = server.told | {PROTECTED: bytes_record(mask, "told")}
        node = server.nodes[1]
        refused(
            lambda node=node, told=told: node.ask(server.step("train", 1), server.model | told),
            "in the clear",
        )
    assert ledger_of(tmp_path).count == 0


@pytest.mark.parametrize("mechanism", ["central", "distributed", "local"])
def test_sums_too_narrow_for_updates_are_refused_whatever_the_update(
    mechanism: str, tmp_path: Path
) -> None:
    """A refusal of some updates, and not of others, tells of them without any noise."""
    terms = promise(mechanism)
    for bound in (0.01, 0.15, 0.9):
        folder = tmp_path / str(bound)
        folder.mkdir()
        server = private("hybrid", "key_holder", terms, folder, bound=bound)
        for node, update in ((server.nodes[1], 0.0), (server.nodes[2], 0.4)):
            node.update = np.full(LENGTH, update)
            refused(lambda node=node, server=server: contribution(server, node), f"bound={bound:g}")
        assert ledger_of(folder).count == 0


@pytest.mark.parametrize(("scheme", "trust"), SIGNED)
@pytest.mark.parametrize(
    "story",
    [
        {"privacy": ""},
        {"privacy": promise("local", noise_multiplier=0.1).to_json()},
        {"privacy": promise("dpsgd").to_json()},
        {"privacy": promise(noise_multiplier=0.001).to_json()},
        {"privacy": promise(clipping_norm=0.001).to_json()},
    ],
    ids=["none", "local", "dpsgd", "less", "smaller"],
)
@pytest.mark.parametrize("honest", [True, False])
def test_a_holder_that_was_told_of_less_noise_opens_nothing(
    scheme: str, trust: str, story: dict[str, Any], honest: bool, tmp_path: Path
) -> None:
    """Clients signed the terms; whether the server repeats them or its lie, they do not fit."""
    server = private(scheme, trust, promise(), tmp_path, to_holder=story)
    bodies = contributions(server)
    with pytest.raises(CryptoError, match=r"other terms|without noise"):
        open_from(server, bodies, **({} if honest else story))


@pytest.mark.parametrize(("scheme", "trust"), SIGNED)
def test_a_holder_opens_no_fewer_than_clients_counted_on(
    scheme: str, trust: str, tmp_path: Path
) -> None:
    """Each of five adds a fifth of the noise; in a sum of three there are three fifths."""
    server = private(scheme, trust, promise("distributed"), tmp_path, bound=4.0)
    bodies = contributions(server, min_clients=5) if trust == "key_holder" else []
    if trust == "shared":
        bodies = [contribution(server, server.nodes[i], min_clients=5) for i in (2, 3, 4)]
    with pytest.raises(CryptoError, match="other terms"):
        open_from(
            server, bodies[-3:], header={"terms": server.step("train", 1, min_clients=5).weights}
        )


@pytest.mark.parametrize(("scheme", "trust"), OPENERS)
def test_a_shorter_sum_does_not_put_a_coordinate_in_the_place_of_the_weight(
    scheme: str, trust: str, tmp_path: Path
) -> None:
    """What stands behind the update is released as it is."""
    server = private(scheme, trust, promise(), tmp_path)
    bodies = contributions(server)
    masked = server.total(bodies).masked()
    short = masked[: 32 + 4 * 5] if scheme == "hybrid" else masked
    with pytest.raises(CryptoError, match=f"of 5 values.*{WIDTH}"):
        open_from(server, bodies, masked=short, header={"length": 5})


@pytest.mark.parametrize("release", ["server", "clients"])
@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_whether_a_masked_sum_fits_is_told_once(trust: str, release: str, tmp_path: Path) -> None:
    """Each answer is a bound on the noise at a coordinate; all noise gives the summed key away."""
    server = private("hybrid", trust, promise(), tmp_path, release)
    bodies = contributions(server)
    masked = server.total(bodies).masked()

    def ask(change: int) -> list[int]:
        words = np.frombuffer(masked[32:], "<u4").copy()
        words[0] += np.uint32(change)
        return open_from(server, bodies, masked=masked[:32] + words.tobytes()).tolist()

    scale = server.scheme().parameters.scale
    said = set()
    for change in (scale // 2, 1, 0):  # misfits, fits, is right
        with pytest.raises(CryptoError) as refusal:
            ask(change)
        said.add(str(refusal.value))
    assert len(said) == 1


@pytest.mark.parametrize("trust", ["key_holder", "shared", "committee"])
def test_a_sum_that_was_moved_to_where_it_wraps_is_not_released(trust: str, tmp_path: Path) -> None:
    """By its sign the server would know, whatever the noise, on which side of a value it lay."""
    server = private("hybrid", trust, promise(), tmp_path)
    scale = server.scheme().parameters.scale
    for round, moved in ((1, 0), (2, -1), (3, 1)):
        bodies = contributions(server, round)
        masked = server.total(bodies).masked()
        words = np.frombuffer(masked[32:], "<u4").copy()
        words[0] += np.uint32(scale * (2**31 // scale) + moved * scale * 1000)
        with pytest.raises(CryptoError, match="does not fit the rest"):
            open_from(server, bodies, round, masked=masked[:32] + words.tobytes())


@pytest.mark.parametrize(("scheme", "trust"), SIGNED)
def test_sums_in_which_only_updates_have_room_are_too_narrow(
    scheme: str, trust: str, tmp_path: Path
) -> None:
    server = private(scheme, trust, promise(), tmp_path, bound=1.5)
    refused(lambda: contribution(server, server.nodes[1]), "bound=1.5", "need 2.00")


@pytest.mark.parametrize("trust", ["key_holder", "shared"])
def test_an_opening_that_failed_is_an_opening(trust: str, tmp_path: Path) -> None:
    server = private("hybrid", trust, promise(), tmp_path)
    bodies = contributions(server)
    with pytest.raises(CryptoError):
        open_from(server, bodies, masked=server.total(bodies[:3]).masked())
    with pytest.raises(CryptoError):
        open_from(server, bodies[:3])


@pytest.mark.parametrize("kind", ["evaluate", "sum"])
@pytest.mark.parametrize("mechanism", ["dpsgd", "central", "distributed", "local"])
def test_no_statistic_leaves_a_private_client(kind: str, mechanism: str, tmp_path: Path) -> None:
    server = private("hybrid", "key_holder", promise(mechanism), tmp_path)
    message = {"evaluate": "evaluate", "sum": "query.count"}[kind]
    for changes in ({}, {"metrics": ("loss",)}, {"examples": 100}):
        asked = server.step(kind, 1, **changes)
        refused(
            lambda asked=asked: server.nodes[1].ask(asked, server.model | server.told, message),
            "nothing but a private update leaves this client",
        )


def test_a_floor_is_not_gone_around_by_leaving_the_terms_out(tmp_path: Path) -> None:
    server = private("hybrid", "key_holder", promise(), tmp_path, floor=PrivacyFloor())
    node = server.nodes[1]
    for kind, message in (("train", "train"), ("evaluate", "evaluate"), ("sum", "query.count")):
        asked = server.step(kind, 1, privacy="")
        refused(
            lambda asked=asked, message=message: node.ask(
                asked, server.model | server.told, message
            ),
            "without differential privacy",
        )


def test_terms_that_the_app_would_have_to_keep_and_does_not(tmp_path: Path) -> None:
    """Any app may stand behind the mod; whether it trains with DP-SGD shows in the ledger."""
    for floor in (None, PrivacyFloor(), PrivacyFloor(("dpsgd",), noise_multiplier=1.0)):
        folder = tmp_path / repr(floor)[:30].replace("/", " ")
        folder.mkdir(exist_ok=True)
        server = private("hybrid", "key_holder", promise("dpsgd", epsilon=1.0), folder, floor=floor)
        refused(lambda server=server: contribution(server, server.nodes[1]), "spent nothing")


def test_a_holder_with_a_floor_makes_no_keys_for_less(tmp_path: Path) -> None:
    """Under ``ckks`` and ``packed`` it is all that holds the server to one story."""
    floor = PrivacyFloor(("central",), noise_multiplier=1.0)
    for story in ({"privacy": ""}, {"privacy": promise(noise_multiplier=0.5).to_json()}):
        with pytest.raises(PrivacyError, match="requires"):
            private("ckks", "key_holder", promise(), tmp_path, floor=floor, to_holder=story)


@pytest.mark.parametrize(("scheme", "trust"), [("ckks", "key_holder"), ("hybrid", "key_holder")])
def test_a_label_that_is_not_an_update_s(scheme: str, trust: str, tmp_path: Path) -> None:
    server = private(scheme, trust, promise(), tmp_path)
    bodies = contributions(server)
    for label in ("evaluate", "count", "train "):
        with pytest.raises(OpeningRefusedError, match="noise for updates only"):
            open_from(server, bodies, header={"step": label})
    assert len(open_from(server, bodies)) == WIDTH


def test_a_round_that_was_asked_for_twice_is_paid_twice(tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise("distributed"), tmp_path, bound=4.0)
    node = server.nodes[CLIENTS[0]]
    for changes in ({}, {}, {"attempt": 1}, {"round": 2}):
        contribution(server, node, **changes)
    ledger = ledger_of(tmp_path)
    assert [(e.round, e.attempt) for e in ledger.entries()] == [(1, 0), (1, 0), (1, 1), (2, 0)]
    assert len(ledger.charges(f"data of node {node.number}")) == 4


def test_a_training_that_fails_stays_paid_for(tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise(), tmp_path)
    records = {"x": server.model["arrays"], **server.model}
    with pytest.raises(QflError):
        server.nodes[1].ask(server.step("train", 1, content=""), records | server.told)
    assert ledger_of(tmp_path).count == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_terms_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise(), tmp_path)
    for name in ("noise_multiplier", "clipping_norm", "epsilon", "delta", "count_noise"):
        text = json.dumps(json.loads(promise().to_json()) | {name: value})
        with pytest.raises((PrivacyError, PayloadError)):
            contribution(server, server.nodes[1], privacy=text)
    assert Terms.from_json(promise().to_json()) == promise()
