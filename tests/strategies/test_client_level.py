"""Client-level differential privacy end to end: the noise that is promised is there, once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qfl.clients import ProtectMod
from qfl.clients.accounts import Accounts
from qfl.crypto import TRUSTS
from qfl.errors import ConfigError, FederationError, PrivacyError
from qfl.privacy import Ledger, PrivacyFloor
from qfl.strategies import (
    Aggregation,
    BudgetSpent,
    ClientReplied,
    Privacy,
    SecureStrategy,
    SelectBySize,
    Selective,
    SetupFinished,
)

PAIRS = [(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]
PROTECTED = [pair for pair in PAIRS if pair[0] != "plain"]
LENGTH = 1024
SIZES = (10, 30, 40, 20)


def per_client(message: Any, context: Any) -> str:
    return hashlib.sha256(str(context.node_config["partition-id"]).encode()).hexdigest()


def accounts(folder: Path, **options: Any) -> Accounts:
    return Accounts(str(folder / "ledger.sqlite"), dataset=per_client, **options)


@pytest.fixture
def private_toy(make_toy: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def make(length: int = LENGTH, sizes: tuple[int, ...] = SIZES, **options: Any) -> Any:
        mods = [ProtectMod(accounts=accounts(tmp_path, **options.pop("accounts", {})))]
        return make_toy(sizes, length, mods=mods, **options)

    return make


def strategy(scheme: str, trust: str, privacy: Privacy, **options: Any) -> SecureStrategy:
    made = Aggregation(scheme, trust=trust, grid_bits=16, **options)
    return SecureStrategy(made, privacy=privacy)


def mechanisms(scheme: str) -> list[str]:
    return ["central", "local", "distributed"] if scheme != "plain" else ["central", "local"]


CASES = [(s, t, m) for s, t in PAIRS for m in mechanisms(s)]


@pytest.mark.parametrize(("scheme", "trust", "mechanism"), CASES)
def test_without_noise_the_mean_of_clipped_updates_comes_out(
    run: Callable[..., Any],
    private_toy: Callable[..., Any],
    scheme: str,
    trust: str,
    mechanism: str,
) -> None:
    toy = private_toy(length=20)
    norm = 0.5
    privacy = Privacy(mechanism, epsilon=None, noise_multiplier=0.0, clipping_norm=norm)
    ran = run(toy, strategy(scheme, trust, privacy), rounds=2)
    model = toy.initial["weight"]
    for _ in range(2):
        moves = [toy.move(i, model) for i in range(4)]
        clipped = [move * min(1, norm / np.linalg.norm(move)) for move in moves]
        assert any(np.linalg.norm(move) > norm for move in moves)
        model = model + np.mean(clipped, axis=0)
    # Each of four updates is rounded up or down by a step of 2^-16, twice.
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=12 * 2.0**-16)


@pytest.mark.parametrize(("scheme", "trust", "mechanism"), CASES)
def test_the_mean_carries_the_noise_that_was_asked_for(
    run: Callable[..., Any],
    private_toy: Callable[..., Any],
    scheme: str,
    trust: str,
    mechanism: str,
) -> None:
    toy = private_toy()
    multiplier, norm, least = 0.5, 10.0, 3
    privacy = Privacy(mechanism, epsilon=None, noise_multiplier=multiplier, clipping_norm=norm)
    ran = run(toy, strategy(scheme, trust, privacy, min_clients=least))
    model = toy.initial["weight"]
    noise = ran.final - (model + toy.mean(model, [1] * 4)).ravel()
    # Of the mean of four; three are sure to add their share; locally all four add all, for a
    # sensitivity twice as large.
    wanted = multiplier * norm / 4
    wanted *= {"central": 1, "distributed": (4 / least) ** 0.5, "local": 2 * 4**0.5}[mechanism]
    assert abs(noise.mean()) < 5 * wanted / LENGTH**0.5
    # The standard deviation of an estimate from 1,024 numbers is 2.2 %.
    assert noise.std() == pytest.approx(wanted, rel=0.11)


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
@pytest.mark.parametrize("mechanism", ["central", "distributed"])
def test_a_model_that_the_server_never_sees_is_noised_as_well(
    run: Callable[..., Any], private_toy: Callable[..., Any], scheme: str, mechanism: str
) -> None:
    seen = {}

    def before(message: Any, context: Any) -> None:
        if "arrays" in message.content and context.node_id == 2:
            seen[int(message.content["config"]["server-round"])] = (
                message.content["arrays"]["weight"].numpy().ravel()
            )

    toy = private_toy(before=before)
    privacy = Privacy(mechanism, epsilon=None, noise_multiplier=0.7, clipping_norm=10.0)
    made = strategy(scheme, "key_holder", privacy, min_clients=4, release="clients")
    run(toy, made, rounds=2)
    model = toy.initial["weight"]
    noise = seen[2] - (model + toy.mean(model, [1] * 4)).ravel()
    assert noise.std() == pytest.approx(0.7 * 10 / 4, rel=0.11)


def test_under_skellam_noise_the_mean_is_as_noisy(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    toy = private_toy()
    privacy = Privacy(
        "distributed", epsilon=None, noise_multiplier=0.7, clipping_norm=10.0, noise="skellam"
    )
    made = Aggregation("packed", grid_bits=8, min_clients=4)
    ran = run(toy, SecureStrategy(made, privacy=privacy))
    model = toy.initial["weight"]
    noise = ran.final - (model + toy.mean(model, [1] * 4)).ravel()
    assert noise.std() == pytest.approx(0.7 * 10 / 4, rel=0.11)


@pytest.mark.parametrize(
    ("mechanism", "words"),
    [
        ("central", "noise added by whoever opens the sum: server"),
        ("distributed", "noise of 2 honest clients (min_clients 3 less 1 colluders)"),
        ("local", "each client's own noise on its update"),
        ("dpsgd", "each client's own noise in training"),
    ],
)
def test_what_is_promised_is_said_before_the_first_round(
    run: Callable[..., Any], private_toy: Callable[..., Any], mechanism: str, words: str
) -> None:
    privacy = Privacy(mechanism, epsilon=6.0, delta=1e-6, noise_multiplier=3.0, colluders=1)
    made = strategy("masking", "none", privacy, min_clients=3)
    events: list[Any] = []
    made.observer = events.append
    with contextlib.suppress(FederationError):  # under dpsgd the toy does not train privately
        run(private_toy(length=20), made)
    (setup,) = [event for event in events if isinstance(event, SetupFinished)]
    (note,) = [note for note in setup.notes if note.startswith("privacy of every")]
    assert words in note
    assert "epsilon 6 at delta 1e-06" in note
    assert ("noise multiplier 3" in note) == (mechanism != "dpsgd")


@pytest.mark.parametrize("mechanism", ["dpsgd", "central", "distributed", "local"])
def test_without_noise_nothing_is_promised(
    run: Callable[..., Any], private_toy: Callable[..., Any], mechanism: str
) -> None:
    privacy = Privacy(mechanism, epsilon=None, noise_multiplier=0.0)
    made = strategy("masking", "none", privacy)
    events: list[Any] = []
    made.observer = events.append
    with contextlib.suppress(FederationError):  # under dpsgd the toy does not train privately
        run(private_toy(length=20), made)
    (setup,) = [event for event in events if isinstance(event, SetupFinished)]
    assert any("no privacy is promised" in note for note in setup.notes)


def test_noise_is_sized_for_the_clients_that_do_not_collude(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    toy = private_toy()
    privacy = Privacy(
        "distributed", epsilon=None, noise_multiplier=0.7, clipping_norm=10.0, colluders=2
    )
    ran = run(toy, strategy("masking", "none", privacy, min_clients=3))
    model = toy.initial["weight"]
    noise = ran.final - (model + toy.mean(model, [1] * 4)).ravel()
    assert noise.std() == pytest.approx(0.7 * 10 / 4 * 4**0.5, rel=0.11)


@pytest.mark.parametrize(
    ("scheme", "trust", "mechanism"),
    [
        ("ckks", "key_holder", "central"),
        ("hybrid", "committee", "central"),
        ("masking", "none", "distributed"),
        ("plain", "none", "central"),
    ],
)
def test_the_clipping_norm_follows_the_norms(
    run: Callable[..., Any],
    private_toy: Callable[..., Any],
    scheme: str,
    trust: str,
    mechanism: str,
) -> None:
    toy = private_toy(length=20)
    privacy = Privacy(
        mechanism,
        epsilon=None,
        noise_multiplier=1e-3,
        clipping_norm=8.0,
        count_noise=0.05,
        clipping_lr=1.0,
    )
    states = []
    made = strategy(scheme, trust, privacy, min_clients=4)
    made.checkpoint = states.append
    run(toy, made, rounds=4)
    norms = [state.clipping_norm for state in states]
    # All are within, so the norm shrinks by exp(-(1 - 0.5)), give or take the noise on the count.
    assert norms[1] == pytest.approx(8 * np.exp(-0.5), rel=0.1)
    assert norms[2] == pytest.approx(8 * np.exp(-1.0), rel=0.2)


def test_a_run_ends_well_before_the_round_that_its_budget_does_not_pay_for(
    run: Callable[..., Any], private_toy: Callable[..., Any], tmp_path: Path
) -> None:
    toy = private_toy(length=20)
    # One round costs an epsilon of 3.1 to 4.3, two of them more than 5.
    privacy = Privacy("central", epsilon=5.0, noise_multiplier=1.25)
    ran = run(toy, strategy("ckks", "key_holder", privacy), rounds=5)
    (spent,) = [event for event in ran.events if isinstance(event, BudgetSpent)]
    assert [event.round for event in ran.rounds] == [0, 1]
    assert spent.round == 2
    assert "pays for 1 rounds" in spent.reason
    assert ran.final.shape == (20,)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert len(ledger.datasets()) == 4
    for dataset in ledger.datasets():
        assert ledger.epsilon(dataset, 1e-5) <= 5.0


def test_the_noise_is_enough_for_all_rounds_and_hardly_more(
    run: Callable[..., Any], private_toy: Callable[..., Any], tmp_path: Path
) -> None:
    toy = private_toy(length=20)
    privacy = Privacy("distributed", epsilon=6.0)
    ran = run(toy, strategy("masking", "none", privacy), rounds=4)
    assert [event.round for event in ran.rounds] == [0, 1, 2, 3, 4]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for dataset in ledger.datasets():
        assert 5.9 < ledger.epsilon(dataset, 1e-5) <= 6.0


def test_what_a_client_spent_before_counts(
    run: Callable[..., Any], private_toy: Callable[..., Any], tmp_path: Path
) -> None:
    privacy = Privacy("distributed", epsilon=6.0)
    run(private_toy(length=20), strategy("masking", "none", privacy), rounds=2)
    ran = run(private_toy(length=20), strategy("masking", "none", privacy), rounds=2)
    (spent,) = [event for event in ran.events if isinstance(event, BudgetSpent)]
    assert spent.round == 1
    assert "privacy budget is spent" in spent.reason
    assert np.array_equal(ran.final, private_toy(length=20).initial["weight"].ravel())


def test_a_round_of_too_few_is_not_opened(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    def before(message: Any, context: Any) -> None:
        if context.node_id > 2:
            raise RuntimeError("out of memory")

    toy = private_toy(length=20, before=before)
    privacy = Privacy("distributed", epsilon=6.0)
    with pytest.raises(FederationError, match="at least 3 are needed"):
        run(toy, strategy("ckks", "key_holder", privacy, min_clients=3))


@pytest.mark.parametrize(
    ("mechanism", "parts", "words"),
    [
        ("central", {"metrics": ("loss",)}, "released without noise"),
        ("dpsgd", {"evaluate_metrics": ("loss",)}, "released without noise"),
        ("dpsgd", {"selection": SelectBySize(3)}, "how many examples"),
        ("local", {"aggregation": Aggregation(weighting="examples")}, "how many examples"),
        ("distributed", {"aggregation": Aggregation("plain")}, "share of the noise"),
        ("central", {"aggregation": Aggregation(selective=Selective("layers"))}, "in the clear"),
        ("dpsgd", {"aggregation": Aggregation(selective=Selective("sensitivity"))}, "sensitiv"),
    ],
)
def test_what_would_leave_without_noise_is_refused_at_the_strategy(
    mechanism: str, parts: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        SecureStrategy(privacy=Privacy(mechanism), **parts)
    SecureStrategy(**parts)


@pytest.mark.parametrize(
    ("floor", "words"),
    [
        (PrivacyFloor(("dpsgd",)), "asks for mechanism distributed"),
        (PrivacyFloor(noise_multiplier=2.0), "at least 2"),
        (PrivacyFloor(clipping_norm=0.5), "clipping_norm of at most 0.5"),
        (PrivacyFloor(epsilon=4.0), "epsilon of at most 4"),
        (PrivacyFloor(delta=1e-6), "delta of at most 1e-06"),
        (PrivacyFloor(honest=4), "at least 4"),
    ],
)
def test_a_client_takes_no_part_on_terms_weaker_than_its_floor(
    run: Callable[..., Any], private_toy: Callable[..., Any], floor: PrivacyFloor, words: str
) -> None:
    toy = private_toy(length=20, accounts={"floor": floor})
    privacy = Privacy("distributed", epsilon=6.0, noise_multiplier=1.5)
    with pytest.raises(FederationError, match=words):
        run(toy, strategy("masking", "none", privacy))


def test_a_client_with_a_floor_gives_nothing_without_privacy(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    toy = private_toy(length=20, accounts={"floor": PrivacyFloor()})
    with pytest.raises(FederationError, match="without differential privacy"):
        run(toy, SecureStrategy(Aggregation("masking")))


def test_a_client_without_a_ledger_gives_no_private_update(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    with pytest.raises(FederationError, match="keeps no ledger"):
        run(make_toy(SIZES), strategy("masking", "none", Privacy("distributed")))


def test_sums_that_cannot_hold_the_noise_are_refused(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    privacy = Privacy("local", epsilon=None, noise_multiplier=10.0, clipping_norm=50.0)
    with pytest.raises(ConfigError, match=r"lower privacy\.clipping_norm"):
        run(private_toy(length=20), strategy("masking", "none", privacy))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mechanism", ["central", "distributed", "local"])
def test_a_diverged_update_counts_as_none_and_nobody_learns_of_it(
    run: Callable[..., Any], private_toy: Callable[..., Any], mechanism: str, value: float
) -> None:
    toy = private_toy(length=20)
    toy.updates[1][3] = value
    privacy = Privacy(mechanism, epsilon=None, noise_multiplier=0.0, clipping_norm=10.0)
    ran = run(toy, strategy("masking", "none", privacy, min_clients=4))
    model = toy.initial["weight"]
    moves = [toy.move(i, model) for i in (0, 2, 3)]
    np.testing.assert_allclose(
        ran.final, (model + np.sum(moves, axis=0) / 4).ravel(), rtol=0, atol=6 * 2.0**-16
    )
    assert ran.rounds[-1].failures == 0
    assert not any(isinstance(event, ClientReplied) and event.error for event in ran.events)


def test_colluders_must_leave_somebody(
    run: Callable[..., Any], private_toy: Callable[..., Any]
) -> None:
    privacy = Privacy("distributed", epsilon=6.0, colluders=3)
    with pytest.raises(PrivacyError, match="leaves nobody"):
        run(private_toy(length=20), strategy("masking", "none", privacy))
