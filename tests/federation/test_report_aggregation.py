"""What a report says of aggregation: who opened what, what stays in the clear, what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_folders import (
    Page,
    add_lines,
    add_metrics,
    add_openings,
    build_run,
    change,
    drop,
    facts_of,
    page_of,
    table_of,
)

from qfl.conf.schema import ExperimentConfig
from qfl.errors import FederationError, StorageError

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
CKKS = {
    "scheme": "ckks",
    "trust": "key_holder",
    "release": "server",
    "assumption": "server and key holder do not collude",
    "opened_by": "key holder (node 11)",
    "parameters_in_clear": 0,
    "upload_bytes_per_client": 15_990,
    "max_abs_error": 2.5e-6,
}


def bare(folder: Path, rounds: int = 3, **aggregation: Any) -> Path:
    """A run folder without what gives the other sections their figures."""
    build_run(folder, rounds=rounds, baselines=False, aggregation=CKKS | aggregation)
    (folder / "evaluation.json").unlink()
    return folder


def alt_of(page: Page, title: str) -> str:
    return str(page.images[page.figures.index(title)]["alt"])


def test_the_section_says_what_holds_and_what_was_opened(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", aggregation=CKKS)
    with (folder / "config.yaml").open("a") as file:
        file.write("  grid_bits: 10\n  rounding: stochastic\n")
    add_openings(folder, "count", {0: 10})
    add_openings(folder, "train", {i: 9 if i == 4 else 10 for i in range(1, 21)})
    add_openings(folder, "evaluate", dict.fromkeys(range(1, 21), 8))
    page = page_of(folder)
    before = page.headings.index("Aggregation") - 1
    assert page.headings[before : before + 3] == ["Clients", "Aggregation", "Privacy"]
    assert facts_of(page) == {
        "Scheme": "ckks: CKKS ciphertexts, which the server adds",
        "Trust": "key holder: one node holds the key",
        "Release": "server: the server learns the opened sums and the model",
        "Opened by": "key holder (node 11)",
        "Assumption": "server and key holder do not collude",
        "Parameters in the clear": "none",
        "Grid step": "2^-10 = 0.000977, stochastic rounding",
        "Largest rounding error": "2.5e-06 in any coordinate of an opened mean",
        "Sums opened": "count of examples: 1 sum of 10 contributions; "
        "train: 20 sums of 9 to 10 contributions each; "
        "evaluate: 20 sums of 8 contributions each",
    }
    assert "label evaluate, contributions 8, opened_by key holder (node 11)" in page.text


def test_a_sum_that_was_opened_twice_is_named(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run")
    # Set-up is done again by every resumed run; a round is not.
    for rounds in ([0, 1, 2, 3], [0, 3, 4]):
        add_openings(folder, "train", dict.fromkeys(rounds, 5))
    assert facts_of(page_of(folder))["Opened again"] == "round 3 (train)"


def test_records_of_older_runs_give_fewer_rows(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run")
    change(folder, "summary.json", aggregation={"scheme": "ckks", "trust": "key_holder"})
    lines = [{"time": 1, "event": "sum_opened", "round": i, "updates": 10 - i} for i in (1, 2, 3)]
    add_lines(folder / "audit.jsonl", lines)
    page = page_of(folder)
    facts = facts_of(page)
    assert facts.keys() == {"Scheme", "Trust", "Sums opened"}
    assert facts["Sums opened"] == "train: 3 sums of 7 to 9 contributions each"
    assert alt_of(page, "Time per round").startswith("Line chart")
    assert "time, median" not in page.text


def test_without_any_record_there_is_no_section(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run")
    change(folder, "summary.json", aggregation={})
    assert "Aggregation" not in page_of(folder).headings


@pytest.mark.parametrize("odd", [{"contributions": "x"}, {"round": None}, {"contributions": None}])
def test_openings_that_say_nothing_are_not_counted(tmp_path: Path, odd: dict[str, Any]) -> None:
    folder = bare(tmp_path / "run")
    add_openings(folder, "train", {1: 5})
    event = {"time": 1, "event": "sum_opened", "round": 2, "label": "train", "contributions": 7}
    add_lines(folder / "audit.jsonl", [event | odd])
    facts = facts_of(page_of(folder))
    assert facts["Sums opened"] == "train: 1 sum of 5 contributions"


@pytest.mark.parametrize(
    ("clear", "row", "sentence"),
    [
        (0, "none", ""),
        (
            329,
            "329 of 658 (50.0 %)",
            "Protected were 329 of 658 parameters; the other 329 travelled in the clear",
        ),
        (658, "658 of 658 (all)", ""),
    ],
)
def test_what_stays_in_the_clear_is_said(
    tmp_path: Path, clear: int, row: str, sentence: str
) -> None:
    scheme = "plain" if clear == 658 else "ckks"
    page = page_of(bare(tmp_path / "run", scheme=scheme, parameters_in_clear=clear))
    assert facts_of(page)["Parameters in the clear"] == row
    assert ("travelled in the clear" in page.text) == bool(sentence)
    assert sentence in page.text


def test_a_number_in_the_clear_must_be_one(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run", parameters_in_clear="some")
    with pytest.raises(
        StorageError, match=r"'aggregation.parameters_in_clear' must be a number, not text"
    ):
        page_of(folder)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (
            {"scheme": "masking", "trust": "none", "opened_by": "server, with the shares"},
            "summed under pairwise masks; only the sum was opened, by the server, with the shares.",
        ),
        (
            {"scheme": "hybrid", "trust": "committee", "opened_by": "2 of committee nodes 1, 2, 3"},
            "under encryption (hybrid); only the sum was opened, by 2 of committee nodes 1, 2, 3.",
        ),
        (
            {"scheme": "packed", "trust": "shared", "opened_by": "client (node 4)"},
            "under encryption (packed); only the sum was opened, by the client (node 4).",
        ),
    ],
)
def test_how_updates_were_summed_reads_right(
    tmp_path: Path, about: dict[str, str], sentence: str
) -> None:
    page = page_of(bare(tmp_path / "run", **about))
    assert sentence in page.text
    assert ("pairwise masks, no key" in page.text) == (about["scheme"] == "masking")
    assert "key holder" not in facts_of(page)["Trust"]


def build_blind(folder: Path, task: str) -> Path:
    """A run whose model stayed with the clients: own values only, and no final evaluation."""
    build_run(folder, task=task, rounds=4, aggregation={**CKKS, "release": "clients"})
    (folder / "evaluation.json").unlink()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    held_out = ("loss", "accuracy", "rmse", "mae", "r2")
    kept = [
        line
        for line in lines
        if line["round"] and (line["run"] != "main" or line["metric"] not in held_out)
    ]
    (folder / "metrics.jsonl").write_text("")
    add_lines(folder / "metrics.jsonl", kept)
    add_metrics(folder, "max_abs_error", dict.fromkeys(range(1, 5), 0.0))
    add_metrics(folder, "eval_loss", {i: 1 / i for i in range(1, 5)})
    own = {"eval_loss": 0.25}
    if task == "classification":
        add_metrics(folder, "eval_accuracy", {i: i / 8 for i in range(1, 5)})
        own["eval_accuracy"] = 0.5
    change(folder, "summary.json", metrics=own)
    return folder


def test_a_model_that_stayed_with_the_clients(tmp_path: Path) -> None:
    page = page_of(build_blind(tmp_path / "run", "classification"))
    assert page.figures == [
        "Accuracy on the clients' own data",
        "Training loss",
        "Bytes per round",
        "Time per round",
    ]
    for words in (
        "Accuracy, clients' own data50.0 %loss 0.25",
        "The model stayed with the clients: the server passed on what it could not read.",
        "these values are their own",
        "so nobody evaluated it on the held-out examples",
        "this run has none, because its model stayed with the clients",
        "This run and the run without encryption coincide exactly.",
    ):
        assert words in page.text, words
    assert "ends at 50.0 %" in alt_of(page, "Accuracy on the clients' own data")
    for words in ("not recorded", "No round was completed", "Rounding moved", "largest error"):
        assert words not in page.text, words
    assert facts_of(page)["Release"] == "clients: the model stays with the clients"
    assert facts_of(page)["Largest rounding error"].startswith("not known here")
    (own,) = [row for row in table_of(page, "") if row[0] == "this run"]
    assert own[3:] == ["–", "–"]


def test_a_forecast_that_stayed_with_the_clients(tmp_path: Path) -> None:
    page = page_of(build_blind(tmp_path / "run", "regression"))
    assert page.figures[:2] == ["Loss on the clients' own data", "Training loss"]
    assert "Loss, clients' own data0.25" in page.text
    assert "not recorded" not in page.text


def with_phases(folder: Path, first: float = 5.5) -> Path:
    """20 rounds: half a second of training except in the first, and 0.1 s to open."""
    bare(folder, rounds=20)
    train = {i: 0.5 if i > 1 else first for i in range(1, 21)}
    add_metrics(folder, "seconds_train", train)
    add_metrics(folder, "seconds_open", dict.fromkeys(range(1, 21), 0.1))
    add_metrics(folder, "seconds", {i: seconds + 0.1 for i, seconds in train.items()})
    add_metrics(folder, "bytes_key_holder", dict.fromkeys(range(1, 21), 2048))
    return folder


def test_time_and_bytes_by_phase(tmp_path: Path) -> None:
    page = page_of(with_phases(tmp_path / "run"))
    # (5.5 + 19 / 2) / 20 = 0.75; of 10 clients each 15 990 bytes up and 2 632 down.
    assert table_of(page, "phase") == [
        ["phase", "time, mean", "time, median", "bytes up", "bytes down"],
        ["train, protect, upload", "750 ms", "500 ms", "156.2 KiB", "25.7 KiB"],
        ["open the sums", "100 ms", "100 ms", "2.0 KiB ↕", ""],
        ["whole round", "850 ms", "600 ms", "156.2 KiB", "25.7 KiB"],
    ]
    assert "↕: to and from the key holder, both ways in one number" in page.text
    assert "counted with training" not in page.text
    assert "Round 1 took 5.6 s and is cut off at the top." in page.text
    assert alt_of(page, "Time per round") == (
        "Stacked chart of the time of each round. On average: whole round 850 ms. Round 1 took "
        "5.6 s and is cut off at the top. train, protect, upload 750 ms; open the sums 100 ms"
    )


def test_a_first_round_like_the_others_is_not_cut(tmp_path: Path) -> None:
    assert "cut off" not in page_of(with_phases(tmp_path / "run", first=1.5)).text


def test_phases_that_took_no_time_are_left_out(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run", trust="none")
    add_metrics(folder, "seconds_train", {1: 0.5, 2: 0.25, 3: 0.375})
    add_metrics(folder, "seconds_open", {1: 0.0, 2: 0.0, 3: 0.0})
    add_metrics(folder, "seconds_evaluate", {1: 0.125, 2: 0.125, 3: 0.125})
    add_metrics(folder, "seconds_held_out", {1: 0.25, 2: 0.25, 3: 0.25})
    page = page_of(folder)
    names = [row[0] for row in table_of(page, "phase")[1:]]
    assert names == [
        "train, protect, upload",
        "evaluate at the clients",
        "evaluate on held-out data",
        "whole round",
    ]
    assert "evaluate is counted with training" in page.text
    assert "↕" not in page.text


def test_phases_of_a_single_round_and_of_none(tmp_path: Path) -> None:
    folder = bare(tmp_path / "one", rounds=1)
    add_metrics(folder, "seconds_train", {1: 0.5})
    assert "500 ms" in page_of(folder).text
    folder = bare(tmp_path / "none", rounds=0)
    assert "Cost of a round" not in page_of(folder).headings


def test_what_is_not_finite_is_not_stacked(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run", rounds=2)
    add_metrics(folder, "seconds_train", {1: float("nan"), 2: 0.5})
    assert ["train, protect, upload", "500 ms", "500 ms"] in [
        row[:3] for row in table_of(page_of(folder), "phase")
    ]


def opened(folder: Path) -> list[tuple[int, str, int, str]]:
    events = [json.loads(line) for line in (folder / "audit.jsonl").open()]
    return [
        (event["round"], event["label"], event["contributions"], event["opened_by"])
        for event in events
        if event["event"] == "sum_opened"
    ]


def test_every_sum_that_a_run_opens_is_on_record(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    changes = {
        "strategy": {"scheme": "ckks", "trust": "key_holder", "release": "clients"},
        "preprocess.fit": "federated",
        "baselines.plain": True,
    }
    summary = run(configure(changes))
    by = "key holder (node 4)"
    assert opened(tmp_path / "run") == [
        (0, "count", 3, by),
        (0, "moments", 3, by),
        (1, "train", 3, by),
        (1, "evaluate", 3, by),
        (2, "train", 3, by),
        (2, "evaluate", 3, by),
    ]
    assert summary["aggregation"]["max_abs_error"] is None
    assert summary["aggregation"]["parameters_in_clear"] == 0
    page = page_of(tmp_path / "run")
    assert "train: 2 sums of 3 contributions each" in facts_of(page)["Sums opened"]
    assert [row[0] for row in table_of(page, "phase")[1:]] == [
        "train, protect, upload",
        "open the sums",
        "evaluate at the clients",
        "whole round",
    ]


def test_what_was_opened_before_a_failure_stays_on_record(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(FederationError, match="bound"):
        run(configure({"strategy.bound": 0.001}))
    assert opened(tmp_path / "run") == [
        (0, "count", 3, "server"),
        (0, "moments", 3, "server"),
    ]


@pytest.mark.parametrize(
    ("strategy", "clear"),
    [
        ({"scheme": "plain", "trust": "none"}, 79),
        ({"scheme": "ckks", "trust": "key_holder"}, 0),
        (
            {
                "scheme": "ckks",
                "trust": "key_holder",
                "selective": {"by": "sensitivity", "share": 0.5},
            },
            79 - 40,
        ),
    ],
    ids=["plain", "all", "half"],
)
def test_a_run_counts_the_parameters_in_the_clear(
    configure: Configure, run: Run, tmp_path: Path, strategy: dict[str, Any], clear: int
) -> None:
    summary = run(configure({"rounds": 1, "strategy": {**strategy, "min_clients": 2}}))
    assert summary["model"]["parameters"] == 79
    assert summary["aggregation"]["parameters_in_clear"] == clear
    labels = [label for _, label, _, _ in opened(tmp_path / "run")]
    assert ("sensitivity" in labels) == ("selective" in strategy)


def test_a_run_that_failed_in_its_set_up_counts_nothing(tmp_path: Path) -> None:
    folder = bare(tmp_path / "run", rounds=0, parameters_in_clear=None)
    drop(folder, "summary.json", "model")
    assert "Parameters in the clear" not in facts_of(page_of(folder))
