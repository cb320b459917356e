"""What a person sees, on a terminal and without one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from rich.console import Console

from qfl.federation.display import RoundsDisplay, human_bytes
from qfl.strategies import ClientReplied, Event, RoundFinished, SetupFinished

SETUP = SetupFinished(
    clients=3,
    scheme="ckks",
    trust="key_holder",
    assumption="server and key holder do not collude",
    opened_by="key holder (node 4)",
    key_id="abc",
    examples=120,
    parameters=79,
    notes=("left out: node 9 [gone]",),
)


def finished(number: int, rounds: int = 2, **metrics: float) -> RoundFinished:
    return RoundFinished(number, rounds, 3, 0, 2048, 3 * 2**20, 10, 0.5, 1e-6, metrics)


def show(
    events: Iterable[Event], *, terminal: bool, task: str = "classification", detailed: bool = True
) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, color_system=None)
    with RoundsDisplay(task, 2, console, "demo: qnn on digits", detailed=detailed) as display:
        for event in events:
            display.tell(event)
    return output.getvalue()


RUN: list[Event] = [
    SETUP,
    finished(0, loss=1.25, accuracy=0.25),
    ClientReplied(1, 7, 1, 3),
    finished(1, loss=0.5, accuracy=0.875),
    finished(2, loss=0.25, accuracy=1.0),
]


@pytest.mark.parametrize("terminal", [True, False])
def test_setup_and_every_round_are_shown(terminal: bool) -> None:
    output = show(RUN, terminal=terminal)
    assert "demo: qnn on digits" in output
    assert "3 clients, 120 examples, 79 parameters; scheme ckks, sums opened by key" in output
    assert "Assumption: server and key holder do not collude." in output
    assert "Note: left out: node 9 [gone]." in output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    rows = [line.split() for line in plain.splitlines() if "/2 " in line and "KiB" in line]
    assert rows == [
        ["0/2", "3", "1.2500", "0.2500", "2.0", "KiB", "3.0", "MiB", "0.50"],
        ["1/2", "3", "0.5000", "0.8750", "2.0", "KiB", "3.0", "MiB", "0.50"],
        ["2/2", "3", "0.2500", "1.0000", "2.0", "KiB", "3.0", "MiB", "0.50"],
    ]


def test_without_a_terminal_there_are_plain_lines_only() -> None:
    output = show(RUN, terminal=False)
    assert "\x1b" not in output
    assert "\r" not in output
    assert "replied" not in output
    assert "examples" in output


def test_on_a_terminal_a_line_moves_and_never_passes_the_last_round() -> None:
    output = show(RUN, terminal=True)
    assert "\x1b[" in output
    assert "starting" in output
    assert "3/2" not in output


def test_columns_stand_under_their_names() -> None:
    lines = show(RUN, terminal=False).splitlines()
    names = next(line for line in lines if "round" in line and "loss" in line)
    row = next(line for line in lines if "1/2" in line)
    assert names.split() == ["round", "clients", "loss", "accuracy", "up", "down", "seconds"]
    assert names.index("loss") + 4 == row.index("0.5000") + 6
    assert len(names) == len(row)


@pytest.mark.parametrize("terminal", [True, False])
def test_three_problems_are_told_in_full_and_the_rest_counted(terminal: bool) -> None:
    problems = [ClientReplied(1, 10 + i, i + 1, 5, f"reason [{i}]") for i in range(5)]
    output = show([SETUP, *problems, finished(1)], terminal=terminal)
    assert "node 10 left out of round 1: reason [0]" in output
    assert "reason [2]" in output
    assert "reason [3]" not in output
    assert "2 more clients left out of round 1" in output


def test_problems_are_counted_per_round() -> None:
    events: list[Event] = [ClientReplied(n, n, 1, 3, f"reason {n}") for n in (1, 2, 3)]
    events.insert(1, finished(1))
    events.append(ClientReplied(3, 4, 2, 3, "reason 4"))
    output = show(events, terminal=False)
    assert all(f"reason {n}" in output for n in (1, 2, 3, 4))


def test_regression_shows_the_error_and_what_is_missing_is_blank() -> None:
    output = show([SETUP, finished(1, rmse=12.5)], terminal=False, task="regression")
    assert "rmse" in output
    assert "accuracy" not in output
    row = next(line for line in output.splitlines() if "1/2" in line)
    assert row.split()[2] == "12.5000"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_baseline_is_one_moving_line_or_nothing(terminal: bool) -> None:
    output = show(RUN, terminal=terminal, detailed=False)
    assert "Assumption" not in output
    assert "0.8750" not in output
    assert bool(output.strip()) == terminal


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 2**20, "5.0 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**50, "1048576.0 GiB"),
    ],
)
def test_bytes_for_people(count: int, shown: str) -> None:
    assert human_bytes(count) == shown
