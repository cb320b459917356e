"""What is charged is what was done, to whom it was done, before it was done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from privacy_server import WIDTH, contribution, ledger_of, private, promise
from privacy_torch import Client, configured

from qfl.clients import local_data, private_training
from qfl.crypto import unpack
from qfl.errors import PayloadError, PrivacyError, QflError
from qfl.privacy import Ledger, PrivacyFloor, Terms
from qfl.records import ARRAYS, PAYLOAD, record_bytes, record_of

DPSGD = Terms("dpsgd", epsilon=4.0)
CENTRAL = Terms("central", noise_multiplier=1.0)
UNLIMITED = {"epsilon": None, "noise_multiplier": 2.0}
PRIVATE = [CENTRAL, Terms("local", noise_multiplier=1.0), DPSGD]


def entries(folder: Path) -> list[Any]:
    return Ledger(folder / "ledger.sqlite").entries()


# Two stories: the terms of the message, and the configuration in it.


def test_both_stories_alike_are_paid_for_once(tmp_path: Path) -> None:
    for number, terms in enumerate(PRIVATE):
        client = Client(tmp_path)
        reply = client.ask(configured(terms.mechanism, privacy=UNLIMITED), terms, round=number)
        assert list(reply.content) == ["qfl-payload"]
        assert client.spent == number + 1
    kinds = ["discrete_gaussian", "discrete_gaussian", "gaussian"]
    assert [entry.charge.mechanism for entry in entries(tmp_path)] == kinds


@pytest.mark.parametrize("floor", [None, PrivacyFloor(noise_multiplier=0.1)])
@pytest.mark.parametrize("mechanism", ["none", "central", "local", "distributed"])
def test_terms_that_leave_the_noise_to_an_app_that_is_told_otherwise(
    mechanism: str, floor: PrivacyFloor | None, tmp_path: Path
) -> None:
    """The mod adds no noise to what was trained with DP-SGD, and the app would not train so."""
    changes = {"strategy": {"weighting": "uniform", "min_clients": 2}}
    client = Client(tmp_path, floor)
    with pytest.raises(QflError, match=r"spent nothing|nobody would add|requires"):
        client.ask(configured(mechanism, **changes), DPSGD)
    assert client.spent == 0


@pytest.mark.parametrize("mod", [True, False])
@pytest.mark.parametrize("floor", [None, PrivacyFloor()])
@pytest.mark.parametrize("mechanism", ["central", "local", "distributed"])
def test_a_promise_of_noise_that_nobody_would_add(
    mechanism: str, floor: PrivacyFloor | None, mod: bool, tmp_path: Path
) -> None:
    """A stock strategy with a configuration of ours, or an app without the mod."""
    client = Client(tmp_path, floor, mod=mod)
    with pytest.raises(QflError, match=r"nobody would add the noise|without differential privacy"):
        client.ask(configured(mechanism), step=False)
    with pytest.raises(QflError, match=r"nobody would add the noise|without differential privacy"):
        client.ask(configured(mechanism), None)


def test_more_privacy_than_was_asked_for_is_given(tmp_path: Path) -> None:
    client = Client(tmp_path)
    client.ask(configured("dpsgd", privacy=UNLIMITED), CENTRAL)
    assert [entry.charge.mechanism for entry in entries(tmp_path)] == [
        "discrete_gaussian",
        "gaussian",
    ]
    client.ask(configured("dpsgd", privacy=UNLIMITED), step=False)
    assert client.spent == 3
    client.ask(configured("none"), CENTRAL)
    assert client.spent == 4


@pytest.mark.parametrize("kind", ["evaluate", "query.count", "query.moments", "query.sensitivity"])
@pytest.mark.parametrize("mod", [True, False])
def test_a_client_with_a_floor_tells_nothing_else_whatever_the_configuration(
    kind: str, mod: bool, tmp_path: Path
) -> None:
    client = Client(tmp_path, PrivacyFloor(), mod=mod)
    with pytest.raises(PrivacyError, match="without differential privacy"):
        client.ask(configured("none"), kind=kind, step=False)


# Budgets.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"epsilon": None, "noise_multiplier": 0.5}, "no budget"),
        ({"epsilon": 100.0}, "epsilon=100"),
        ({"epsilon": 4.0, "delta": 0.9}, "delta=0.9"),
    ],
)
def test_the_budget_that_pays_is_the_one_that_the_floor_is_held_to(
    asked: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Terms are checked at the mod; what pays for DP-SGD stands in the configuration."""
    client = Client(tmp_path, PrivacyFloor(epsilon=4.0))
    with pytest.raises(PrivacyError, match=words):
        client.ask(configured("dpsgd", privacy=asked), DPSGD)
    assert client.spent == 0


def test_a_floor_of_epsilon_alone_is_not_gone_around_by_a_large_delta(tmp_path: Path) -> None:
    """At a delta of 0.99 a thousand rounds cost next to nothing."""
    floor = PrivacyFloor(epsilon=4.0)
    cheap = Terms("central", noise_multiplier=1.0, epsilon=4.0, delta=0.99)
    with pytest.raises(PrivacyError, match=r"delta=0\.99; this client requires delta of at most"):
        floor.check(cheap, 3)
    floor.check(Terms("central", noise_multiplier=1.0, epsilon=4.0), 3)


def test_a_floor_of_own_noise_holds_where_the_others_may_be_invented() -> None:
    """A thousand clients that there are not would leave each a thirtieth of the noise."""
    floor = PrivacyFloor(("distributed",), noise_multiplier=1.0, own_noise=0.5)
    terms = Terms("distributed", noise_multiplier=1.0)
    floor.check(terms, 4)
    for invented in (5, 1000):
        with pytest.raises(PrivacyError, match=r"noise of its own=.*at least 0\.5"):
            floor.check(terms, invented)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"partition": {"name": "dirichlet", "alpha": 0.3}},
        {"clients": 4},
        {"dataset": {"name": "iris", "test_fraction": 0.3}},
        {"preprocess": {"fit": "local", "scale": "none"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_server_gets_no_new_budget_by_having_data_read_in_another_way(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Named by content, other parts of the same records would be other data."""
    client, last = Client(tmp_path), configured("dpsgd", privacy={"epsilon": 2.0})
    for round in range(3):
        client.ask(last, DPSGD, round=round)
    with pytest.raises(PrivacyError, match="budget is spent"):
        client.ask(configured("dpsgd", privacy={"epsilon": 2.0}, **changes), DPSGD)
    assert len(Ledger(tmp_path / "ledger.sqlite").datasets()) == 1


# Charges.


@pytest.mark.parametrize(
    "privacy",
    [
        {},
        {"sample_rate": 0.3},
        {"noise_multiplier": 2.0, "epsilon": None},
        {"clipping": "adaptive", "clipping_norm": 0.5},
        {"clipping": "per_layer"},
    ],
)
@pytest.mark.parametrize("epochs", [1, 3])
def test_steps_rate_and_noise_are_those_that_training_has(
    monkeypatch: pytest.MonkeyPatch, privacy: dict[str, Any], epochs: int, tmp_path: Path
) -> None:
    done: dict[str, Any] = {"steps": 0, "rates": set(), "records": set()}
    sampled, noisy = private_training.poisson_batches, private_training.NoisyGradients

    def batches(records: int, rate: float, steps: int, stream: Any) -> Any:
        done["rates"].add(rate)
        done["records"].add(records)
        for batch in sampled(records, rate, steps, stream):
            done["steps"] += 1
            yield batch

    class Noisy(noisy):  # type: ignore[misc, valid-type]
        def __init__(self, asked: Any, *args: Any) -> None:
            super().__init__(asked, *args)
            count = 0.0
            if asked.clipping == "adaptive":  # two Gaussian releases at once, by their root
                count = 1 / (2 * asked.count_noise) ** 2
            done["noise"] = (self._multiplier**-2 + count) ** -0.5

    monkeypatch.setattr(private_training, "poisson_batches", batches)
    monkeypatch.setattr(private_training, "NoisyGradients", Noisy)
    config = configured("dpsgd", privacy=privacy, client={"local_epochs": epochs, "batch_size": 8})
    Client(tmp_path).ask(config, DPSGD)
    (entry,) = entries(tmp_path)
    records = len(local_data.load_parts(config)[1][0])
    assert entry.charge.steps == done["steps"] > 0
    assert done["rates"] == {entry.charge.sample_rate}
    assert done["records"] == {records}
    assert entry.charge.noise_multiplier == pytest.approx(done["noise"])


def test_epsilon_of_rounds_lies_between_what_is_known_of_gaussian_noise(tmp_path: Path) -> None:
    """By Balle and Wang (2018) from below; by Bun and Steinke (2016) from above."""
    z, rounds, delta = 2.0, 3, 1e-5
    server = private("ckks", "key_holder", promise(noise_multiplier=z), tmp_path)
    for round in range(1, rounds + 1):
        contribution(server, server.nodes[1], round)
    epsilon = ledger_of(tmp_path).epsilon("data of node 2", delta)
    mu = math.sqrt(rounds) / z
    phi = lambda x: math.erfc(-x / math.sqrt(2)) / 2  # noqa: E731

    def delta_at(found: float) -> float:
        return phi(mu / 2 - found / mu) - math.exp(found) * phi(-mu / 2 - found / mu)

    rho = mu**2 / 2
    assert delta_at(epsilon) <= delta
    assert epsilon <= rho + 2 * math.sqrt(rho * math.log(1 / delta))


def test_arrays_that_are_not_trained_take_no_part_in_noise_and_charge(tmp_path: Path) -> None:
    """Counters, as a batch normalisation's, are integers and stay what they are."""
    server = private("ckks", "key_holder", promise(), tmp_path)
    node = server.nodes[1]
    model = {"w": np.zeros(6), "seen": np.arange(40)}

    def app(message: Message, context: Context) -> Message:
        trained = {"w": np.full(6, 0.1), "seen": np.arange(40) + 1}
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({ARRAYS: record_of(trained), "metrics": metrics})
        return Message(content, reply_to=message)

    node._app = app
    records = {ARRAYS: record_of(model), **server.told}
    reply = node.ask(server.step("train", 1, content=""), records)
    assert unpack(record_bytes(reply, PAYLOAD))[0].length == WIDTH
    (entry,) = ledger_of(tmp_path).entries()
    assert entry.charge.dimension == WIDTH - 1


def test_a_malformed_charge_is_not_entered(tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise(), tmp_path)
    for clients in (0, -1):
        with pytest.raises(PayloadError):
            contribution(server, server.nodes[1], clients=clients)
    assert ledger_of(tmp_path).count == 0
