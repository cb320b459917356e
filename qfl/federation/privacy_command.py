"""``qfl privacy``: what a run would cost, and what a ledger says was spent."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qfl.errors import ConfigError, PrivacyError, StorageError, unknown_name
from qfl.federation.privacy_plan import (
    NEIGHBOURS,
    Plan,
    epsilon_text,
    finite,
    make_plan,
    read_arguments,
)
from qfl.federation.privacy_spent import show_ledger

USAGE = """\
usage: qfl privacy plan rounds=N epsilon=E | noise_multiplier=Z [key=value…]
                        [--figure FILE.svg|FILE.png] [--json]
       qfl privacy ledger LEDGER|RUN_DIR [--delta D] [--json]

plan    With epsilon: the least noise with which all rounds stay within it. With noise_multiplier
        (standard deviation of the noise over the sensitivity): the epsilon that they come to.

  rounds=50               rounds of the run
  delta=1e-5              chance that epsilon does not hold; below 1/records
  mechanism=dpsgd         for each record: dpsgd; for each client: central, distributed or local
  accountant=auto         auto, prv or rdp
  dpsgd:
    sample_rate=0.05 steps=20                        probability that a record is in a step, and
                                                     steps of a round; or, to have them computed,
    records=1000 batch_size=50 local_epochs=1        of the client that has fewest records
  distributed:
    clients=10 min_clients=8 colluders=1             noise is counted of min_clients - colluders

  --figure FILE           draw epsilon against rounds, as SVG or PNG
  --json                  print JSON; an infinite epsilon is null

ledger  What was spent on each data set, after the whole ledger was checked for damage.

  --delta 1e-5            delta for which epsilon is told; a run folder's is its own
  --json                  print JSON; an infinite epsilon is null
"""

_BAR = 32


def run_privacy(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: The command line cannot be understood.
        PrivacyError: What was asked has no answer, or a ledger cannot be trusted.
        StorageError: A file cannot be read or written.
    """
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help", "help") or "-h" in rest or "--help" in rest:
        print(USAGE, end="")
        return
    commands = {"plan": _plan, "ledger": show_ledger}
    if command not in commands:
        raise ConfigError(unknown_name("command of qfl privacy", command, commands))
    commands[command](rest)


def _plan(rest: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="qfl privacy plan", add_help=False, allow_abbrev=False)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("values", nargs="*")
    options = parser.parse_intermixed_args(rest)
    if options.figure and options.figure.suffix.lower() not in (".svg", ".png"):
        raise ConfigError(f"--figure {options.figure}: the name must end in .svg or .png")
    plan = make_plan(read_arguments(options.values))
    if options.json:
        print(json.dumps(_plan_data(plan), indent=2))
    else:
        _print_plan(plan)
    if options.figure:
        _write_figure(plan, options.figure)


def _plan_data(plan: Plan) -> dict[str, Any]:
    charge = plan.charge
    return {
        "mechanism": plan.asked["mechanism"],
        "neighbouring": NEIGHBOURS[plan.asked["mechanism"]],
        "noise_multiplier": charge.noise_multiplier,
        "epsilon": finite(plan.epsilon),
        "delta": plan.asked["delta"],
        "budget": plan.budget,
        "rounds": plan.asked["rounds"],
        "accountant": plan.accountant,
        "charge_per_round": asdict(charge),
        "curve": [{"rounds": count, "epsilon": finite(value)} for count, value in plan.curve],
        "warnings": list(plan.warnings),
    }


def _print_plan(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    charge, asked = plan.charge, plan.asked
    said = [
        f"{asked['mechanism']}, {asked['rounds']} rounds, delta {asked['delta']:g}, accountant "
        f"{plan.accountant}"
    ]
    if asked["mechanism"] == "dpsgd":
        said.append(
            f"Sampling: each record with probability {charge.sample_rate:.4g} in each of "
            f"{charge.steps} steps a round"
        )
    if asked["mechanism"] == "distributed":
        said.append(
            f"Noise: that of min_clients - colluders = {charge.shares} clients counts; each adds "
            f"the whole standard deviation over the root of {charge.shares}"
        )
    said.append(f"Neighbouring: {NEIGHBOURS[asked['mechanism']]}")
    needed = "" if plan.budget is None else " needed"
    said.append(f"Noise multiplier{needed}: {charge.noise_multiplier:g}")
    said.append(f"Epsilon after {asked['rounds']} rounds: {epsilon_text(plan.epsilon)}")
    for line in said:
        console.print(line, markup=False, soft_wrap=True)
    longest = max([plan.budget or 0.0, *(finite(value) or 0.0 for _, value in plan.curve)])
    table = Table(box=None, pad_edge=False)
    table.add_column("rounds", justify="right")
    table.add_column("epsilon", justify="right")
    table.add_column("" if plan.budget is None else f"of {plan.budget:g}")
    for count, value in plan.curve:
        length = round(_BAR * value / longest) if math.isfinite(value) and longest else _BAR
        table.add_row(str(count), epsilon_text(value), "█" * length)
    console.print(table)
    for line in plan.warnings:
        console.print(f"Warning: {line}", markup=False, soft_wrap=True)


def _write_figure(plan: Plan, path: Path) -> None:
    from qfl.federation.report import drawing

    values = {count: value for count, value in plan.curve if math.isfinite(value)}
    if not values:
        raise PrivacyError(
            "there is no figure to draw: without noise epsilon is infinite; set noise_multiplier "
            "above 0"
        )
    figure = drawing.canvas(width=6.4, height=4.0)
    axes = figure.add_subplot()
    drawing.style(axes, "rounds", f"epsilon (at delta = {plan.asked['delta']:g})")
    label = f"{plan.asked['mechanism']}, noise multiplier {plan.charge.noise_multiplier:g}"
    drawing.draw(axes, drawing.Line(label, values, drawing.BLUE, "-", "o"), 1.0)
    if plan.budget is not None:
        axes.axhline(
            plan.budget,
            color=drawing.BLACK,
            linestyle=":",
            linewidth=1.3,
            label=f"budget {plan.budget:g}",
        )
    axes.set_ylim(bottom=0)
    drawing.whole_rounds(axes)
    drawing.legend(figure, axes)
    kind = path.suffix.lower().removeprefix(".")
    try:
        figure.savefig(path, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else {})
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that exists and can "
            "be written"
        ) from None
