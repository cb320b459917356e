"""The ledger as one process sees it: what it records, and what it refuses."""

from __future__ import annotations

import math
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfl.errors import BudgetSpentError, PrivacyError
from qfl.privacy import ledger_room
from qfl.privacy.charge import Charge
from qfl.privacy.ledger import Budget, Entry, Ledger
from qfl.privacy.ledger_file import charge_from, charge_text, connected

DATASETS = ["a" * 64, "b" * 64, "0123456789abcdef" * 4]
LIMITLESS = Budget(epsilon=None, delta=1e-5)


def entry(dataset: str = DATASETS[0], z: float = 1.0, round: int = 0) -> Entry:
    return Entry(dataset, "3", "demo", round, 0, Charge("gaussian", z))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle and Wang (2018), theorem 8, solved by bisection."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        tail = math.exp(min(middle + math.log(phi(-mu / 2 - middle / mu) or 1e-300), 700))
        low, high = (low, middle) if phi(mu / 2 - middle / mu) - tail <= delta else (middle, high)
    return high


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Accounts that add 1 / noise_multiplier a charge, exactly, and count how often they do."""
    calls: Counter[str] = Counter()

    def epsilon_of(charges: Sequence[Charge], delta: float, accountant: str = "auto") -> float:
        calls["epsilon_of"] += 1
        return math.fsum(1 / charge.noise_multiplier for charge in charges)

    def rounds_within(
        epsilon: float,
        delta: float,
        charge: Charge,
        spent: Sequence[Charge] = (),
        accountant: str = "auto",
        most: int = 10**6,
    ) -> int:
        calls["rounds_within"] += 1
        before = math.fsum(1 / one.noise_multiplier for one in spent)
        return min(most, max(0, int((epsilon - before) * charge.noise_multiplier)))

    for module in ("ledger", "ledger_room"):
        monkeypatch.setattr(f"qfl.privacy.{module}.epsilon_of", epsilon_of)
    monkeypatch.setattr("qfl.privacy.ledger_room.rounds_within", rounds_within)
    ledger_room._count.cache_clear()
    return calls


@pytest.fixture(autouse=True)
def fresh_counts() -> None:
    ledger_room._count.cache_clear()


def test_what_is_spent_is_there_in_order_and_for_whoever_opens_the_file(ledger: Ledger) -> None:
    made = [entry(DATASETS[i % 2], z=1.0 + i, round=i) for i in range(4)]
    before = datetime.now(UTC) - timedelta(seconds=1)
    for one in made:
        ledger.spend(one, LIMITLESS)
    for reader in (ledger, Ledger(ledger.path)):
        found = reader.entries()
        assert [replace(one, time="") for one in found] == made
        assert before <= datetime.fromisoformat(found[0].time) <= datetime.now(UTC)
        assert [one.round for one in reader.entries(DATASETS[1])] == [1, 3]
        assert reader.datasets() == DATASETS[:2]
        assert reader.charges(DATASETS[0]) == [Charge("gaussian", 1.0), Charge("gaussian", 3.0)]
        assert reader.charges(DATASETS[2]) == []
        assert reader.count == 4
    assert ledger.place == Ledger(ledger.path).place


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.integers(0, 1)),
        max_size=30,
    ),
    budgets=st.tuples(*[st.sampled_from([0.25, 1.0, 2.0, 3.5, 8.0])] * 3),
)
def test_it_agrees_with_a_list(
    steps: list[tuple[int, float, int]], budgets: tuple[float, float, float]
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asked.__wrapped__(patch)  # type: ignore[attr-defined]
        path = Path(folder, "ledger.sqlite")
        objects = [Ledger(path), Ledger(path)]
        model: list[Entry] = []
        for number, (which, z, through) in enumerate(steps):
            one = entry(DATASETS[which], z, number)
            spent = sum(1 / e.charge.noise_multiplier for e in model if e.dataset == one.dataset)
            if spent + 1 / z <= budgets[which]:
                objects[through].spend(one, Budget(budgets[which], 1e-5))
                model.append(one)
            else:
                with pytest.raises(BudgetSpentError):
                    objects[through].spend(one, Budget(budgets[which], 1e-5))
        for reader in (*objects, Ledger(path)):
            assert [replace(e, time="") for e in reader.entries()] == model
            for dataset in DATASETS:
                expected = [e.charge for e in model if e.dataset == dataset]
                assert Counter(reader.charges(dataset)) == Counter(expected)


def test_a_budget_is_spent_to_the_last_charge_and_not_beyond(ledger: Ledger) -> None:
    """k Gaussian releases with noise multiplier z are one with z / sqrt(k)."""
    limit = (
        gaussian_epsilon(math.sqrt(7) / 10, 1e-5) + gaussian_epsilon(math.sqrt(8) / 10, 1e-5)
    ) / 2
    budget = Budget(limit, 1e-5)
    for i in range(7):
        ledger.spend(entry(z=10.0, round=i), budget)
    with pytest.raises(BudgetSpentError) as refused:
        ledger.spend(entry(z=10.0, round=7), budget)
    assert ledger.count == 7
    assert ledger.epsilon(DATASETS[0], 1e-5) <= limit
    ledger.spend(entry(DATASETS[1], z=10.0, round=7), budget)
    words = str(refused.value)
    assert words.startswith("data set aaaaaaaaaaaa of client 3 has spent epsilon ")
    assert "round 7 of run demo would make it" in words
    assert f"its budget is {limit:g}" in words


@pytest.mark.usefixtures("asked")
def test_the_message_has_the_figures(ledger: Ledger) -> None:
    ledger.spend(entry(z=0.8), Budget(2.0, 1e-6))
    with pytest.raises(
        BudgetSpentError,
        match=r"spent epsilon 1\.25 .* make it 2\.25 \(delta 1e-06\); its budget is 2\. ",
    ):
        ledger.spend(entry(z=1.0), Budget(2.0, 1e-6))


def test_the_same_attempt_again_is_charged_again(ledger: Ledger, asked: Counter[str]) -> None:
    for _ in range(2):
        ledger.spend(entry(z=1.0), Budget(2.0, 1e-5))
    with pytest.raises(BudgetSpentError):
        ledger.spend(entry(z=1.0), Budget(2.0, 1e-5))


def test_without_noise_there_is_no_budget_that_suffices(ledger: Ledger) -> None:
    with pytest.raises(BudgetSpentError, match="would make it inf"):
        ledger.spend(entry(z=0.0), Budget(1e9, 1e-5))
    ledger.spend(entry(z=0.0), LIMITLESS)
    assert ledger.epsilon(DATASETS[0], 1e-5) == math.inf
    assert ledger.epsilon(DATASETS[1], 1e-5) == 0.0


def test_it_computes_once_and_then_counts(ledger: Ledger, asked: Counter[str]) -> None:
    """Whatever the data set: equal histories have equal answers."""
    for i in range(80):
        ledger.spend(entry(DATASETS[i < 10], z=1.0, round=i), Budget(500.0, 1e-5))
    # 64 charges at first, then 128.
    assert asked == {"rounds_within": 2}
    ledger.spend(entry(z=2.0), Budget(500.0, 1e-5))
    assert asked == {"rounds_within": 3}


@pytest.mark.usefixtures("asked")
def test_a_count_does_not_outlive_the_history_it_was_made_for(ledger: Ledger) -> None:
    ledger.spend(entry(z=1.0), Budget(4.0, 1e-5))
    Ledger(ledger.path).spend(entry(z=0.4), Budget(4.0, 1e-5))
    with pytest.raises(BudgetSpentError):
        ledger.spend(entry(z=1.0), Budget(4.0, 1e-5))
    ledger.spend(entry(z=1.0), Budget(4.5, 1e-5))


def test_the_accountant_has_the_last_word(
    ledger: Ledger, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qfl.privacy.ledger_room.rounds_within", lambda *_: 0)
    ledger.spend(entry(z=1.0), Budget(1.0, 1e-5))
    with pytest.raises(BudgetSpentError):
        ledger.spend(entry(z=1.0), Budget(1.0, 1e-5))


def test_only_the_owner_reads_the_file_and_nothing_lies_beside_it(ledger: Ledger) -> None:
    ledger.spend(entry(), LIMITLESS)
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    assert list(ledger.path.parent.iterdir()) == [ledger.path]


def test_commits_wait_for_the_disk(ledger: Ledger) -> None:
    with connected(ledger.path) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_every_field_of_a_charge_is_kept() -> None:
    full = Charge("skellam", 1.5, 1.0, 3, 1e-12, 1048576.0, 9, 1000)
    plain = Charge("gaussian", 1.1, 0.02, 7)
    assert charge_from(charge_text(full)) == full
    assert charge_from(charge_text(plain)) == plain
    assert all(f'"{field.name}"' in charge_text(full) for field in fields(Charge))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": ""},
        {"client": "a\nb"},
        {"run": ""},
        {"round": -1},
        {"attempt": -1},
        {"round": 2**63},
    ],
)
def test_entries_that_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PrivacyError, match=f"an entry has {next(iter(wrong))}="):
        replace(entry(), **wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 1e-5), "epsilon=0.0 is not allowed"),
        ((math.nan, 1e-5), "epsilon=nan is not allowed"),
        ((math.inf, 1e-5), "epsilon=inf is not allowed"),
        ((1.0, 0.0), "delta=0.0 is not allowed"),
        ((1.0, 1.0), "delta=1.0 is not allowed"),
        ((1.0, 1e-5, "pvr"), "did you mean 'prv'"),
    ],
)
def test_budgets_that_are_refused(arguments: tuple[float, float], words: str) -> None:
    with pytest.raises(PrivacyError, match=words):
        Budget(*arguments)
