"""What a run says of what left its clients, and of the privacy that it did not achieve."""

from __future__ import annotations

from typing import Any

import pytest

from qfl.conf.checks import from_dict
from qfl.conf.schema import ExperimentConfig
from qfl.federation.privacy_statement import left_the_clients, not_achieved

SERVER, EACH = "the server, summed over clients", "the server, each client's own"


def configured(mechanism: str = "none", **changes: Any) -> ExperimentConfig:
    """What the group ``privacy`` sets, and changes by section."""
    data: dict[str, dict[str, Any]] = {"strategy": {"min_clients": 3}, "privacy": {}}
    if mechanism != "none":
        data["strategy"]["weighting"] = "uniform"
        data["preprocess"] = {"fit": "public"}
        data["privacy"]["mechanism"] = mechanism
    for section, values in changes.items():
        data[section] = data.get(section, {}) | values
    return from_dict(data)


def rows(config: ExperimentConfig) -> dict[str, tuple[str, str]]:
    found = left_the_clients(config)
    assert len({row["what"] for row in found}) == len(found)
    return {row["what"]: (row["seen"], row["protection"]) for row in found}


@pytest.mark.parametrize("mechanism", ["dpsgd", "central", "distributed", "local"])
def test_a_private_client_sends_nothing_but_its_update(mechanism: str) -> None:
    assert [*rows(configured(mechanism))] == [
        "update of the model",
        "that its budget is spent, once it is",
        "taking part in a round, and time taken",
    ]
    unlimited = {"epsilon": None, "noise_multiplier": 1.0}
    assert [*rows(configured(mechanism, privacy=unlimited))] == [
        "update of the model",
        "taking part in a round, and time taken",
    ]


def test_without_privacy_all_that_is_summed_is_named() -> None:
    config = configured(
        strategy={"selective": {"by": "sensitivity"}, "selection": {"name": "by_size", "count": 3}},
        preprocess={"fit": "federated", "pca": 4},
    )
    both = ("the key holder and the server, summed over clients", "only the sum is seen")
    assert rows(config) == {
        "update of the model, protected parameters": both,
        "update of the model, parameters in the clear": (EACH, "none"),
        "training loss": both,
        "number of examples": both,
        "number of examples, to select by": (EACH, "none"),
        "sums for scaling and projection": both,
        "how much the loss depends on each parameter": both,
        "taking part in a round, and time taken": ("the server", "none"),
    }


def test_plain_sums_protect_nothing() -> None:
    found = rows(configured(strategy={"scheme": "plain", "trust": "none"}))
    assert found["update of the model"] == (EACH, "none")
    assert found["number of examples"] == (EACH, "none")


@pytest.mark.parametrize(
    ("strategy", "mechanism", "update"),
    [
        ({"scheme": "masking", "trust": "none"}, "none", SERVER),
        # Only a sum of keys is opened by the holder, or by the committee.
        ({"scheme": "hybrid"}, "none", SERVER),
        ({"scheme": "hybrid", "trust": "committee"}, "none", SERVER),
        ({}, "none", "the key holder and the server, summed over clients"),
        (
            {"trust": "shared"},
            "none",
            "the client that opens sums and the server, summed over clients",
        ),
        ({"release": "clients"}, "none", "the key holder, summed over clients"),
        ({}, "central", "the key holder, summed over clients; then the server, with noise"),
        (
            {"scheme": "hybrid", "trust": "committee"},
            "central",
            "one member of the committee, summed over clients; then the server, with noise",
        ),
        ({"scheme": "masking", "trust": "none"}, "central", SERVER),
        ({"release": "clients"}, "central", "the key holder, summed over clients"),
    ],
)
def test_who_sees_updates_first(strategy: dict[str, str], mechanism: str, update: str) -> None:
    assert rows(configured(mechanism, strategy=strategy))["update of the model"][0] == update


def test_a_model_that_stays_with_clients_has_them_evaluate_it() -> None:
    found = rows(configured(strategy={"release": "clients"}))
    # What is no update goes to the server also then.
    assert found["loss on own data, and accuracy"][0].startswith("the key holder and the server")
    assert "loss on own data" in rows(
        configured(
            strategy={"release": "clients"}, dataset={"name": "diabetes", "task": "regression"}
        )
    )
    assert "loss on own data, and accuracy" not in rows(
        configured("dpsgd", strategy={"release": "clients"})
    )


@pytest.mark.parametrize(
    ("mechanism", "changes", "protection"),
    [
        ("dpsgd", {}, "DP-SGD"),
        ("central", {}, "noise added by the key holder to the sum"),
        (
            "central",
            {"strategy": {"scheme": "plain", "trust": "none"}},
            "noise added by the server after it has read them",
        ),
        ("distributed", {"privacy": {"colluders": 1}}, "of at least 3 clients, 1 of which may"),
        ("local", {}, "noise by the client itself"),
        ("central", {"privacy": {"noise_multiplier": 0.0, "epsilon": None}}, "without noise"),
    ],
)
def test_how_an_update_is_protected(
    mechanism: str, changes: dict[str, Any], protection: str
) -> None:
    assert protection in rows(configured(mechanism, **changes))["update of the model"][1]


@pytest.mark.parametrize(("mechanism", "sent"), [("central", True), ("dpsgd", False)])
def test_adaptive_clipping_of_updates_sends_one_thing_more(mechanism: str, sent: bool) -> None:
    found = rows(configured(mechanism, privacy={"clipping": "adaptive"}))
    assert ("whether the update was within the clipping norm" in found) == sent


def test_what_else_leaves_where_settings_let_it() -> None:
    local = rows(configured("dpsgd", preprocess={"fit": "local"}))
    assert local["each client's own scaling, in the model.json of a simulation"][1] == "none"
    remote = rows(configured("dpsgd", quantum={"engine": "pennylane", "device": "qiskit.remote"}))
    assert remote["features, as angles of circuits"] == (
        "whoever runs the quantum computer",
        "none",
    )


def said(config: ExperimentConfig, epsilon: float | None = 4.0) -> str:
    found = not_achieved(config, epsilon)
    assert all(sentence.endswith(".") for sentence in found)
    assert len(set(found)) == len(found)
    return " ".join(found)


@pytest.mark.parametrize(
    ("mechanism", "changes", "words", "others"),
    [
        ("none", {}, "Encryption hides updates, not the model.", "The guarantee"),
        (
            "none",
            {"strategy": {"scheme": "plain", "trust": "none"}},
            "Nothing was encrypted: the server read every client's own update.",
            "Encryption hides",
        ),
        ("dpsgd", {}, "The unit is one record", "Each client scales"),
        ("dpsgd", {}, "with one record as without it", "Baselines"),
        ("dpsgd", {}, "number of a client's records is taken as known", "Nothing was encrypted"),
        # Sums are divided by the expected size of a batch, and so is the noise that is seen.
        ("dpsgd", {"privacy": {"sample_rate": 0.1}}, "taken as known, because noisy", "follow"),
        (
            "dpsgd",
            {"dataset": {"name": "narma10", "task": "regression", "window": 12}},
            "A point is in up to 13 of them",
            "Baselines",
        ),
        ("dpsgd", {"preprocess": {"fit": "local"}}, "Each client scales", "collud"),
        (
            "dpsgd",
            {"strategy": {"scheme": "plain", "trust": "none"}},
            "every client's own update, noised as that client noised it.",
            "own update.",
        ),
        # Statistics of a client's own data are part of what is exchanged there.
        ("central", {"preprocess": {"fit": "local"}}, "The key holder sees sums before", "scales"),
        (
            "central",
            {"strategy": {"scheme": "plain", "trust": "none"}},
            "The server sees every update before it adds the noise",
            "The unit",
        ),
        (
            "distributed",
            {"privacy": {"colluders": 2}},
            "with at most 2 of the clients: it counts the noise of 1 honest client and fails",
            "Against another client",
        ),
        ("distributed", {}, "Against another client less is guaranteed", "at most 0"),
        ("local", {}, "as with any others in their place", "Nothing was encrypted"),
        ("dpsgd", {"baselines": {"pooled": True}}, "they are in no ledger", "Noise multiplier 0"),
    ],
)
def test_what_was_not_achieved(
    mechanism: str, changes: dict[str, Any], words: str, others: str
) -> None:
    text = said(configured(mechanism, **changes), None if mechanism == "none" else 4.0)
    assert words in text
    assert others not in text
    assert "A simulation sees all data" in text


def test_no_guarantee_is_said_to_be_none() -> None:
    noiseless = {"noise_multiplier": 0.0, "epsilon": None}
    for mechanism in ("dpsgd", "central", "distributed", "local"):
        text = said(configured(mechanism, privacy=noiseless), None)
        assert "Noise multiplier 0" in text
        assert "The guarantee is" not in text
        assert "The unit is" not in text
    text = said(configured("dpsgd"), None)
    assert "No finite epsilon holds at delta 1e-05: nothing is guaranteed." in text
    assert "The guarantee is a bound" not in text
    assert "The guarantee is a bound" not in said(configured("dpsgd"), 0.0)  # nothing was spent
