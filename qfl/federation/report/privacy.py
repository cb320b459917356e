"""The section of the page on privacy: what was spent, what left the clients, what is not private.

All of it is the summary's own account; nothing is worked out here but the spread over data sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import Any

from qfl.federation.privacy_statement import NO_PRIVACY
from qfl.federation.report import markup
from qfl.federation.report.aggregation import explained
from qfl.federation.report.drawing import (
    BLUE,
    Figure,
    Line,
    canvas,
    draw,
    level,
    plain_text,
    style,
    to_svg,
    whole_rounds,
)
from qfl.federation.report.reading import Run
from qfl.federation.report.units import epsilon_text, number_text

MECHANISMS = {
    "none": "no differential privacy",
    "dpsgd": "every client trains with DP-SGD, which clips each record's gradient and adds noise",
    "central": "clients clip their updates, and whoever opens the sum adds the noise",
    "distributed": "clients clip their updates, and each adds a share of the noise",
    "local": "each client clips its update, and adds all of the noise itself",
}
PROTECTED = {
    "record": "one record of a client's data, whether it is there or not",
    "client": "one client's data, all of them, whether they are there or not",
}
EXCHANGED = "one client's data, all of them, whatever they are"
ACCOUNTANTS = {
    "prv": "privacy loss as a random variable, composed numerically",
    "rdp": "Rényi differential privacy",
}
CLIPPINGS = {
    "flat": "one norm for all parameters together",
    "per_layer": "a norm for each layer",
    "adaptive": "the norm follows a quantile of the norms",
}
LEFT = {"what": "what", "seen": "who saw it first", "protection": "how it was protected"}


def privacy(run: Run) -> str:
    """What privacy there was, and what there was not; the latter stands in every page."""
    about = run.summary["privacy"]
    lacking = markup.subsection("What privacy was not achieved", markup.listed(_lacking(run)))
    curve = epsilon_curve(run)
    left = about["left_the_clients"]
    rows = [[str(row.get(key) or "–") for key in LEFT] for row in left]
    return markup.section(
        "Privacy",
        markup.facts(_facts(run)),
        markup.figures([curve], beside=lacking) if curve else "",
        markup.subsection("What left the clients", markup.table([*LEFT.values()], rows))
        if rows
        else "",
        "" if curve else lacking,
    )


def epsilon_curve(run: Run) -> Figure | None:
    """What was spent over the rounds, with the budget as a level; None where nothing was."""
    spent = {i: value for i, value in run.main("epsilon").items() if math.isfinite(value)}
    if not spent:
        return None
    about = run.summary["privacy"]
    budget, delta = about.get("budget"), about.get("delta")
    at = "" if delta is None else f" at delta = {number_text(delta)}"
    figure = canvas()
    axes = figure.add_subplot()
    style(axes, "round", f"epsilon spent{plain_text(at)}")
    draw(axes, Line("spent", spent, BLUE, "-", "o", width=2.4, size=4.5), 1.0)
    first, last = min(spent), max(spent)
    said = f"it ends at {epsilon_text(spent[last])}"
    if budget is not None and math.isfinite(budget):
        level(axes, budget, f"budget\n{number_text(budget)}")
        said += f"; the budget is {number_text(budget)}"
    axes.set_ylim(bottom=0)
    axes.margins(y=0.08)
    whole_rounds(axes)
    return Figure(
        title="Epsilon spent",
        alt=f"Line chart of epsilon spent{at} over rounds {first} to {last}: {said}.",
        svg=to_svg(figure),
        caption="Of the data set that spent most. Only a simulation can tell: a real client keeps "
        "its own ledger.",
    )


def _lacking(run: Run) -> list[str]:
    said = [str(sentence) for sentence in run.summary["privacy"]["not_achieved"]]
    if said:
        return said
    return ["What was not achieved is not on record."] if run.private else [NO_PRIVACY]


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    about = run.summary["privacy"]
    yield "Mechanism", explained(about.get("mechanism") or "none", MECHANISMS)
    if not run.private:
        return
    spent, budget = about.get("epsilon"), about.get("budget")
    yield "What is protected", "nothing" if spent is None else _protected(about)
    yield (
        "Epsilon spent, at most",
        "no finite one: nothing is guaranteed" if spent is None else epsilon_text(spent),
    )
    yield (
        "Budget",
        "none: what is spent is only recorded"
        if budget is None
        else f"epsilon {number_text(budget)} for each data set",
    )
    yield "Delta", _number(about, "delta")
    yield "Accountant", explained(about.get("accountant"), ACCOUNTANTS)
    yield "Noise multiplier, smallest", _number(about, "noise_multiplier")
    yield "Clipping", explained(about.get("clipping"), CLIPPINGS)
    first = ", at first" if about.get("clipping") == "adaptive" else ""
    yield "Clipping norm", _number(about, "clipping_norm", first)
    yield "Sampling rate, largest", _sampling(about)
    yield "Honest clients counted", _number(about, "honest_clients")
    yield "Entries in the ledger", _number(about, "entries")
    yield "Epsilon by data set", _spread(about)


def _number(about: dict[str, Any], key: str, more: str = "") -> str:
    value = about.get(key)
    return "" if value is None else number_text(value) + more


def _protected(about: dict[str, Any]) -> str:
    kind = about.get("protects")
    if kind == "client" and about.get("mechanism") == "local":
        return EXCHANGED
    return PROTECTED.get(str(kind), str(kind or ""))


def _sampling(about: dict[str, Any]) -> str:
    if about.get("sample_rate") == 1:
        return "1: nothing is gained by sampling"
    return _number(about, "sample_rate", ", the chance of a record to be in a batch")


def _spread(about: dict[str, Any]) -> str:
    values = [value for value in about["epsilon_by_data_set"] if value is not None]
    values = [value for value in values if not math.isnan(value)]
    if about.get("epsilon") is None or len(values) < 2 or min(values) == max(values):
        return ""
    low, middle, high = map(epsilon_text, (min(values), median(values), max(values)))
    return (
        f"{low} to {high}, median {middle}, over {len(values)} data sets. Only a simulation can "
        "tell: a real client keeps its own ledger, and what it spent tells how much data it has"
    )
