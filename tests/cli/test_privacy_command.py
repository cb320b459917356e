"""``qfl privacy``: plans, ledgers, and what is refused in which words."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from calls import Call

from qfl.privacy.charge import Charge
from qfl.privacy.ledger import Budget, Entry, Ledger

SAMPLED = ["records=1000", "batch_size=50", "rounds=10"]
LIMITLESS = Budget(epsilon=None, delta=1e-5)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Of one Gaussian release with sensitivity over noise ``mu``: Balle and Wang (2018), eq. 6."""
    phi = NormalDist().cdf
    return phi(mu / 2 - epsilon / mu) - math.exp(epsilon) * phi(-mu / 2 - epsilon / mu)


def planned(call: Call, *arguments: str) -> dict[str, Any]:
    code, output, errors = call("privacy", "plan", *arguments, "--json")
    assert (code, errors) == (0, "")
    return dict(json.loads(output))


@pytest.mark.parametrize("arguments", [[], ["-h"], ["plan", "-h"], ["ledger", "--help"]])
def test_help(call: Call, arguments: list[str]) -> None:
    code, output, errors = call("privacy", *arguments)
    assert (code, errors) == (0, "")
    for words in ("usage: qfl privacy plan rounds=N", "qfl privacy ledger LEDGER|RUN_DIR",
                  "sample_rate=0.05 steps=20", "min_clients=8 colluders=1"):  # fmt: skip
        assert words in output
    assert "privacy plan|ledger" in call("--help")[1]
    assert "8 privacy refused" in call("--help")[1]


def test_a_plan_for_a_budget(call: Call) -> None:
    code, output, errors = call("privacy", "plan", "epsilon=4", *SAMPLED)
    assert (code, errors) == (0, "")
    assert "dpsgd, 10 rounds, delta 1e-05, accountant prv" in output
    assert "each record with probability 0.05 in each of 20 steps a round" in output
    assert "Neighbouring: one record of one client added or removed" in output
    assert re.search(r"Noise multiplier needed: \d\.\d+\n", output)
    rows = [line.split() for line in output.splitlines() if "█" in line]
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    values = [float(row[1]) for row in rows]
    assert values == sorted(values)
    assert 3.9 < values[-1] <= 4.0
    assert len(rows[-1][2]) == max(len(row[2]) for row in rows) == 32
    assert "Warning" not in output


def test_noise_and_budget_lead_to_each_other(call: Call) -> None:
    there = planned(call, "epsilon=2", "accountant=rdp", *SAMPLED)
    back = planned(
        call, f"noise_multiplier={there['noise_multiplier']}", "accountant=rdp", *SAMPLED
    )
    assert back["curve"] == there["curve"]
    assert 0.98 * 2 < back["epsilon"] <= 2
    less = planned(
        call, f"noise_multiplier={0.99 * there['noise_multiplier']}", "accountant=rdp", *SAMPLED
    )
    assert less["epsilon"] > 2
    assert (there["budget"], back["budget"]) == (2, None)
    assert there["accountant"] == "rdp"


def test_sampling_may_be_given_or_computed(call: Call) -> None:
    computed = planned(
        call, "noise_multiplier=2", "rounds=3", "records=90", "batch_size=20", "local_epochs=2"
    )
    charge = computed["charge_per_round"]
    assert charge["mechanism"] == "gaussian"
    assert (charge["sample_rate"], charge["steps"]) == (pytest.approx(20 / 90), 8)
    rate = f"sample_rate={charge['sample_rate']!r}"
    given = planned(call, "noise_multiplier=2", "rounds=3", rate, "steps=8")
    assert given["curve"] == computed["curve"]


@pytest.mark.parametrize(
    ("arguments", "shares"),
    [
        (["mechanism=central"], 1),
        (["mechanism=local"], 1),
        (["mechanism=distributed", "clients=10"], 10),
        (["mechanism=distributed", "clients=10", "min_clients=8"], 8),
        (["mechanism=distributed", "clients=10", "min_clients=8", "colluders=3"], 5),
    ],
)
def test_integer_noise_costs_at_least_what_the_gaussian_does(
    call: Call, arguments: list[str], shares: int
) -> None:
    """On a grid this fine the two differ little: 16 releases at 20 are one at 5."""
    data = planned(call, *arguments, "noise_multiplier=20", "rounds=16")
    charge = data["charge_per_round"]
    assert (charge["mechanism"], charge["shares"]) == ("discrete_gaussian", shares)
    assert (
        gaussian_delta(4 / 20, data["epsilon"])
        <= 1e-5
        < gaussian_delta(4 / 20, 0.8 * data["epsilon"])
    )


def test_whose_presence_is_hidden_is_told(call: Call) -> None:
    common = ["noise_multiplier=20", "rounds=16"]
    for mechanism, words in (
        ("central", "one client added or removed"),
        ("local", "all records of one client exchanged for any others"),
    ):
        assert words in call("privacy", "plan", f"mechanism={mechanism}", *common)[1]
    words = ["mechanism=distributed", "clients=10", "min_clients=9", "colluders=2"]
    output = call("privacy", "plan", *words, *common)[1]
    assert "that of min_clients - colluders = 7 clients counts" in output


def test_without_noise_epsilon_is_infinite(call: Call) -> None:
    asked = ["noise_multiplier=0", "rounds=2", "mechanism=central"]
    assert "Epsilon after 2 rounds: infinite" in call("privacy", "plan", *asked)[1]
    assert planned(call, *asked)["curve"] == [
        {"rounds": 1, "epsilon": None},
        {"rounds": 2, "epsilon": None},
    ]
    code, _, errors = call("privacy", "plan", *asked, "--figure", "x.svg")
    assert code == 8
    assert "there is no figure to draw: without noise epsilon is infinite" in errors


def test_a_delta_too_large_for_the_data_is_warned_of(call: Call) -> None:
    asked = ["noise_multiplier=2", *SAMPLED, "delta=0.002"]
    output = call("privacy", "plan", *asked)[1]
    assert "Warning: delta=0.002 is above 1/records = 0.001" in output
    assert len(planned(call, *asked)["warnings"]) == 1
    clients = ["mechanism=central", "clients=20", "noise_multiplier=5", "rounds=2", "delta=0.1"]
    assert "above 1/clients = 0.05" in planned(call, *clients)["warnings"][0]


@pytest.mark.parametrize("name", ["plan.svg", "plan.png"])
def test_a_figure(call: Call, name: str) -> None:
    asked = ["epsilon=3", "mechanism=central", "rounds=40"]
    code, output, errors = call("privacy", "plan", *asked, "--figure", name)
    assert (code, errors) == (0, "")
    assert "rounds" in output
    raw = Path(name).read_bytes()
    if name.endswith("svg"):
        assert ElementTree.fromstring(raw).tag.endswith("svg")
    else:
        assert raw.startswith(b"\x89PNG")
    code, _, errors = call("privacy", "plan", *asked, "--figure", f"none/{name}")
    assert code == 7
    assert f"cannot write none/{name}: No such file or directory" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paln"], "unknown command of qfl privacy 'paln'; did you mean 'plan'? Known: ledger, pl"),
        (["plan"], "rounds is not set: say for how many rounds, as in rounds=50"),
        (["plan", "ruonds=5"], "unknown key 'ruonds'; did you mean 'rounds'"),
        (["plan", "rounds"], "cannot read 'rounds': write key=value"),
        (["plan", "rounds=5", "rounds=6"], "rounds is given twice"),
        (["plan", "rounds=0"], "rounds=0 is not allowed: must be a whole number, 1 to 1000000"),
        (["plan", "rounds=2.5"], "rounds=2.5 is not allowed: must be a whole number"),
        (["plan", "epsilon=-1"], "epsilon=-1 is not allowed: must be a number > 0"),
        (["plan", "epsilon=nan"], "epsilon=nan is not allowed"),
        (["plan", "noise_multiplier=inf"], "noise_multiplier=inf is not allowed"),
        (["plan", "delta=1"], "delta=1 is not allowed: must be a number > 0 and < 1"),
        (["plan", "sample_rate=2"], "sample_rate=2 is not allowed: must be a number > 0 and <= 1"),
        (["plan", "accountant=pvr"], "accountant=pvr is not allowed: must be auto, prv or rdp"),
        (["plan", "mechanism=dpsdg"], "unknown mechanism 'dpsdg'; did you mean 'dpsgd'"),
        (["plan", "rounds=5"], "set either epsilon, to be told the noise that it takes, or noise"),
        (["plan", "rounds=5", "epsilon=1", "noise_multiplier=1"], "set either epsilon"),
        (["plan", "rounds=5", "epsilon=1"], "mechanism=dpsgd needs sample_rate and steps, or"),
        (["plan", "rounds=5", "epsilon=1", "sample_rate=0.1"], "needs sample_rate and steps"),
        (["plan", "rounds=5", "epsilon=1", "records=10"], "needs sample_rate and steps"),
        (["plan", "rounds=5", "epsilon=1", "steps=3", "batch_size=2"], "batch_size with steps: "),
        (["plan", "rounds=5", "epsilon=1", "clients=3"],
         "clients=3 has no meaning with mechanism=dpsgd: it goes with mechanism=central or "),
        (["plan", "rounds=5", "epsilon=1", "mechanism=local", "steps=3"], "steps=3 has no meaning"),
        (["plan", "rounds=5", "epsilon=1", "mechanism=distributed"], "clients is not set"),
        (["plan", "rounds=5", "epsilon=1", "mechanism=distributed", "clients=3", "min_clients=4"],
         "min_clients=4 is more than clients=3"),
        (["plan", "rounds=5", "epsilon=1", "mechanism=distributed", "clients=3", "colluders=3"],
         "colluders=3 with min_clients=3 leaves nobody whose noise counts"),
        (["plan", "--figure", "x.pdf"], "--figure x.pdf: the name must end in .svg or .png"),
        (["plan", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["ledger"], "the following arguments are required: path"),
        (["ledger", "x", "--delta", "2"], "--delta 2 is not allowed: must be > 0 and < 1"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Call, arguments: list[str], words: str) -> None:
    code, output, errors = call("privacy", *arguments)
    assert (code, output) == (2, "")
    assert words in errors
    assert "Traceback" not in errors


def a_ledger(path: Path) -> Ledger:
    ledger = Ledger(path)
    for round in range(1, 5):
        charge = Charge("gaussian", 20.0)
        ledger.spend(Entry("a" * 64, "0", "first", round, 0, charge), LIMITLESS)
    for attempt, z in ((0, 20.0), (1, 40.0)):
        charge = Charge("discrete_gaussian", z, sensitivity=2.0**20, dimension=10)
        ledger.spend(Entry("b" * 64, "1", "first", 1, attempt, charge), LIMITLESS)
    ledger.spend(Entry("b" * 64, "2", "second", 1, 0, Charge("gaussian", 20.0)), LIMITLESS)
    return ledger


def test_a_ledger_is_shown_from_its_file_and_its_folder(call: Call) -> None:
    Path("run").mkdir()
    ledger = a_ledger(Path("run/ledger.sqlite"))
    for name in ("run", "run/ledger.sqlite"):
        code, output, errors = call("privacy", "ledger", name)
        assert (code, errors) == (0, "")
        rows = [line.split() for line in output.splitlines() if line.startswith(("aaa", "bbb"))]
        assert rows[0][:7] == ["a" * 12, "1", "1", "4", "4", "gaussian", "20"]
        assert gaussian_delta(2 / 20, 0.98 * float(rows[0][-1])) > 1e-5
        assert rows[1][:7] == ["b" * 12, "2", "2", "2", "3", "discrete_gaussian,", "gaussian"]
        assert rows[1][7:10] == ["20", "to", "40"]
        assert "Entries: 7, data sets: 2; none changed, dropped or moved." in output
        assert ledger.place.digest in output


def test_a_ledger_as_json(call: Call) -> None:
    ledger = a_ledger(Path("ledger.sqlite"))
    code, output, _ = call("privacy", "ledger", "ledger.sqlite", "--json", "--delta", "1e-3")
    assert code == 0
    data = json.loads(output)
    assert (data["entries"], data["digest"], data["delta"]) == (7, ledger.place.digest, 1e-3)
    first, second = data["datasets"]
    assert first["dataset"] == "a" * 64
    assert gaussian_delta(2 / 20, first["epsilon"]) <= 1e-3
    assert second["noise_multiplier"] == [20.0, 40.0]
    assert second["last"] == ledger.entries()[-1].time


def test_a_ledger_with_nothing_in_it_and_one_without_noise(call: Call) -> None:
    ledger = Ledger("ledger.sqlite")
    assert "Entries: 0, data sets: 0" in call("privacy", "ledger", "ledger.sqlite")[1]
    ledger.spend(Entry("all here", "0", "run", 1, 0, Charge("gaussian", 0.0)), LIMITLESS)
    output = call("privacy", "ledger", "ledger.sqlite")[1]
    assert re.search("all here .* infinite\n", output)
    assert "Infinity" not in call("privacy", "ledger", "ledger.sqlite", "--json")[1]


def test_there_is_no_ledger(call: Call) -> None:
    code, _, errors = call("privacy", "ledger", "nowhere")
    assert (code, errors[:31]) == (7, "qfl: nowhere does not exist: na")
    Path("run").mkdir()
    code, _, errors = call("privacy", "ledger", "run")
    assert code == 7
    assert "run is no run folder: it holds neither ledger.sqlite nor config.yaml" in errors
    Path("run/config.yaml").touch()
    code, _, errors = call("privacy", "ledger", "run")
    assert code == 8
    assert "run holds no ledger.sqlite: this run was not private" in errors
    assert not Path("run/ledger.sqlite").exists()


def test_a_damaged_ledger(call: Call) -> None:
    Path("ledger.sqlite").write_text("all is well")
    code, output, errors = call("privacy", "ledger", "ledger.sqlite")
    assert (code, output) == (8, "")
    assert "ledger.sqlite is no ledger" in errors
