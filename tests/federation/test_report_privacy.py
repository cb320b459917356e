"""What a report says of privacy: what was spent, what left the clients, what was not achieved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from run_folders import Page, add_metrics, build_run, change, facts_of, page_of, table_of

from qfl.errors import StorageError

DPSGD: dict[str, Any] = {
    "mechanism": "dpsgd",
    "protects": "record",
    "epsilon": 7.9561,
    "delta": 1e-5,
    "accountant": "prv",
    "budget": 8.0,
    "noise_multiplier": 0.75,
    "sample_rate": 0.25,
    "clipping": "flat",
    "clipping_norm": 1.5,
    "honest_clients": None,
    "epsilon_by_data_set": [2.5, 3.5, 7.9561],
    "entries": 60,
    "left_the_clients": [
        {"what": "update", "seen": "key holder", "protection": "noise on every step"},
        {"what": "time taken", "seen": "server", "protection": "none"},
    ],
    "not_achieved": ["First shortfall.", "Second shortfall."],
}
NONE = {"epsilon": None, "delta": None, "mechanism": "none", "accountant": "none"}
PRIVATE_FACTS = {
    "Mechanism": "dpsgd: every client trains with DP-SGD, which clips each record&#x27;s gradient "
    "and adds noise",
    "What is protected": "one record of a client&#x27;s data, whether it is there or not",
    "Epsilon spent, at most": "7.957",  # rounded up: 7.956 would be less than was spent
    "Budget": "epsilon 8 for each data set",
    "Delta": "1e-05",
    "Accountant": "prv: privacy loss as a random variable, composed numerically",
    "Noise multiplier, smallest": "0.75",
    "Clipping": "flat: one norm for all parameters together",
    "Clipping norm": "1.5",
    "Sampling rate, largest": "0.25, the chance of a record to be in a batch",
    "Entries in the ledger": "60",
    "Epsilon by data set": "2.5 to 7.957, median 3.5, over 3 data sets. Only a simulation can "
    "tell: a real client keeps its own ledger, and what it spent tells how much data it has",
}


def bare(folder: Path, privacy: dict[str, Any], **summary: Any) -> Path:
    """A run folder with nothing to show but privacy."""
    build_run(folder, baselines=False, privacy=privacy, aggregation={}, **summary)
    (folder / "evaluation.json").unlink()
    (folder / "metrics.jsonl").write_text("")
    return folder


def shortfalls(page: Page) -> str:
    """What stands under the heading, up to the next section."""
    assert page.text.count("What privacy was not achieved") == 1
    return page.text.split("What privacy was not achieved")[1].split("Configuration")[0]


def test_a_private_run_says_what_was_spent_and_what_was_not_private(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", privacy=DPSGD)
    add_metrics(folder, "epsilon", {i: math.sqrt(3 * i) for i in range(21)})
    page = page_of(folder)
    before = page.headings.index("Privacy") - 1
    assert page.headings[before : before + 3] == ["Aggregation", "Privacy", "Cost of a round"]
    assert facts_of(page, "Privacy") == PRIVATE_FACTS
    assert table_of(page, "what") == [
        ["what", "who saw it first", "how it was protected"],
        ["update", "key holder", "noise on every step"],
        ["time taken", "server", "none"],
    ]
    assert "First shortfall." in shortfalls(page)
    assert "Second shortfall." in shortfalls(page)
    assert "Privacyε = 7.957 of 8δ = 1e-05, dpsgd, prv" in page.text
    alt = page.images[page.figures.index("Epsilon spent")]["alt"]
    # sqrt(60) = 7.745967
    assert alt == (
        "Line chart of epsilon spent at delta = 1e-05 over rounds 0 to 20: it ends at 7.746; the "
        "budget is 8."
    )
    assert "Of the data set that spent most. Only a simulation can tell" in page.text


def test_every_round_shows_what_was_spent_until_then(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run", DPSGD)
    add_metrics(folder, "epsilon", {0: 0.0, 1: 1.23401, 2: 2.0})
    add_metrics(folder, "loss", {0: 3.0, 1: 2.0, 2: 1.0})
    page = page_of(folder)
    assert page.figures == ["Held-out loss", "Epsilon spent"]
    head, *body = page.html.split("All rounds as a table")[1].split("<tr>")[1:5]
    column = head.split("</th>").index('<th class="number">epsilon')
    shown = [row.split("</td>")[column].split(">")[-1] for row in body]
    assert shown == ["0", "1.235", "2"]


@pytest.mark.parametrize("values", [{}, {1: math.nan, 2: math.inf}])
def test_without_a_series_there_is_no_figure_but_all_else(
    tmp_path: Path, values: dict[int, float]
) -> None:
    folder = bare(tmp_path / "run", DPSGD)
    add_metrics(folder, "epsilon", values)
    page = page_of(folder)
    assert "Epsilon spent" not in page.figures
    assert facts_of(page, "Privacy") == PRIVATE_FACTS
    assert "First shortfall." in shortfalls(page)


@pytest.mark.parametrize("budget", [None, 0.5, math.inf])
def test_a_single_round_is_drawn_with_any_budget(tmp_path: Path, budget: float | None) -> None:
    folder = bare(tmp_path / "run", DPSGD | {"budget": budget})
    add_metrics(folder, "epsilon", {1: 0.25})
    page = page_of(folder)
    alt = str(page.images[page.figures.index("Epsilon spent")]["alt"])
    assert alt.endswith("; the budget is 0.5." if budget == 0.5 else "it ends at 0.25.")


@pytest.mark.parametrize("privacy", [NONE, {}, NONE | {"not_achieved": [], "protects": "nobody"}])
def test_older_runs_without_privacy_say_that_there_was_none(
    tmp_path: Path, privacy: dict[str, Any]
) -> None:
    page = page_of(bare(tmp_path / "run", privacy))
    assert facts_of(page, "Privacy") == {"Mechanism": "none: no differential privacy"}
    assert "the trained model may tell whether a record or a client was in" in shortfalls(page)
    assert "What left the clients" not in page.text
    assert "Privacynoneno differential privacy" in page.text


def test_runs_without_privacy_show_their_own_account(tmp_path: Path) -> None:
    privacy = NONE | {key: DPSGD[key] for key in ("left_the_clients", "not_achieved")}
    page = page_of(bare(tmp_path / "run", privacy | {"protects": "nobody", "budget": None}))
    assert facts_of(page, "Privacy") == {"Mechanism": "none: no differential privacy"}
    assert table_of(page, "what")[1][0] == "update"
    assert "First shortfall." in shortfalls(page)
    assert "the trained model may tell" not in page.text


def test_noise_zero_is_no_guarantee(tmp_path: Path) -> None:
    page = page_of(bare(tmp_path / "run", DPSGD | {"epsilon": None, "budget": None}))
    facts = facts_of(page, "Privacy")
    assert facts["What is protected"] == "nothing"
    assert facts["Epsilon spent, at most"] == "no finite one: nothing is guaranteed"
    assert facts["Budget"] == "none: what is spent is only recorded"
    assert "Epsilon by data set" not in facts
    assert "ε =" not in page.text


@pytest.mark.parametrize(
    ("mechanism", "protected"),
    [
        ("central", "one client&#x27;s data, all of them, whether they are there or not"),
        ("distributed", "one client&#x27;s data, all of them, whether they are there or not"),
        ("local", "one client&#x27;s data, all of them, whatever they are"),
    ],
)
def test_client_level_has_facts_of_its_own(tmp_path: Path, mechanism: str, protected: str) -> None:
    changes = {
        "mechanism": mechanism,
        "protects": "client",
        "sample_rate": 1.0,
        "clipping": "adaptive",
        "accountant": "rdp",
        "epsilon_by_data_set": [7.9561, 7.9561],
        "honest_clients": 4 if mechanism == "distributed" else None,
    }
    facts = facts_of(page_of(bare(tmp_path / "run", DPSGD | changes)), "Privacy")
    assert facts["What is protected"] == protected
    assert facts["Mechanism"].startswith(f"{mechanism}: ")
    assert facts["Clipping norm"] == "1.5, at first"
    assert facts["Accountant"].startswith("rdp: ")
    assert facts["Sampling rate, largest"].startswith("1: nothing is gained")
    assert facts.get("Honest clients counted") == ("4" if mechanism == "distributed" else None)
    assert "Epsilon by data set" not in facts  # all spent the same


def test_a_run_whose_budget_was_spent_says_so(tmp_path: Path) -> None:
    reason = "epsilon 8 at delta 1e-05 pays for 2 rounds; round 3 does not start"
    folder = bare(tmp_path / "run", DPSGD, rounds=2, status="budget_spent", reason=reason)
    page = page_of(folder)
    assert '<span class="status budget_spent">budget spent</span>' in page.html
    said = f"The run ended before round 3, because budgets do not pay for it: {reason}."
    assert said in page.text
    change(folder, "summary.json", rounds=None, reason=None)
    assert "The run ended early, because budgets do not pay for it." in page_of(folder).text


def test_baselines_are_named_as_the_run_named_them(tmp_path: Path) -> None:
    baseline = {
        "plain": {"name": "qnn", "title": "the same without encryption or privacy", "loss": 0.5},
        "twin": {"name": "mlp", "title": "its classical twin", "loss": 0.25},
        "pooled": {"name": "ridge", "loss": 0.125},
    }
    page = page_of(build_run(tmp_path / "run", rounds=2, privacy=DPSGD, baseline=baseline))
    assert [row[0] for row in table_of(page, "")[1:]] == [
        "this run",
        "the same without encryption or privacy",
        "its classical twin",
        "pooled data",
    ]
    for words in (
        "Without encryption or privacy: the same federation with plain sums and no noise.",
        "a classical model in the same federation and under the same privacy.",
        "in one place, without privacy.",
        "this run and the run without encryption or privacy coincide exactly",
    ):
        assert words in page.text, words


def test_what_is_on_record_in_part_is_shown_in_part(tmp_path: Path) -> None:
    privacy = {
        "mechanism": ["odd"],
        "protects": {"who": 1},
        "epsilon": 1.0,
        "accountant": 3,
        "clipping": True,
        "epsilon_by_data_set": [None, math.nan, 1.0],
        "left_the_clients": [{"what": 1, "seen": None}, {}],
        "not_achieved": [2, None],
    }
    page = page_of(bare(tmp_path / "run", privacy))
    facts = facts_of(page, "Privacy")
    assert facts["Mechanism"] == "[&#x27;odd&#x27;]"
    assert facts["What is protected"] == "{&#x27;who&#x27;: 1}"
    assert facts["Accountant"] == "3"
    assert table_of(page, "what")[1:] == [["1", "–", "–"], ["–", "–", "–"]]
    page = page_of(bare(tmp_path / "short", {"mechanism": "central"}))
    assert "What was not achieved is not on record." in shortfalls(page)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budget": "8"}, "'privacy.budget' must be a number, not text"),
        ({"entries": [1]}, "'privacy.entries' must be a number, not a list"),
        ({"left_the_clients": {}}, "'privacy.left_the_clients' must be a list, not an object"),
        ({"left_the_clients": ["x"]}, "must hold objects; row 0 is text"),
        ({"not_achieved": "x"}, "'privacy.not_achieved' must be a list, not text"),
        ({"epsilon_by_data_set": [1, "x"]}, "must hold numbers; value 1 is text"),
    ],
)
def test_values_of_a_wrong_kind_are_refused_by_name(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    folder = bare(tmp_path / "run", DPSGD | values)
    with pytest.raises(StorageError, match=words):
        page_of(folder)


def test_text_on_privacy_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    texts = dict.fromkeys(("mechanism", "protects", "accountant", "clipping"), bad)
    rows = {"left_the_clients": [dict.fromkeys(("what", "seen", "protection"), bad)]}
    baseline = {"plain": {"title": bad}, "twin": {"title": bad}}
    privacy = DPSGD | texts | rows | {"not_achieved": [bad]}
    page = page_of(bare(tmp_path / "run", privacy, baseline=baseline))
    assert "script" not in page.tags
    assert "<script" not in page.html
    # Facts, cells, a shortfall, two baselines, what the first of them means, the headline's two.
    assert page.text.count(bad) == 4 + 3 + 1 + 2 + 1 + 2
