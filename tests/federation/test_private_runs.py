"""Private runs from start to end: what is spent is on record, and nothing is spent beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from qfl import simulate
from qfl.conf.schema import ExperimentConfig
from qfl.errors import PrivacyError
from qfl.federation.display import RoundsDisplay
from qfl.federation.simulate import resumed_config
from qfl.privacy import Charge, Ledger, epsilon_of
from qfl.strategies import RoundFinished

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
PRIVATE = {
    "strategy.weighting": "uniform",
    "preprocess": {"scale": "none", "fit": "public"},
    "rounds": 3,
}
DPSGD = {**PRIVATE, "privacy.mechanism": "dpsgd", "privacy.epsilon": 4.0}
CENTRAL = {**PRIVATE, "privacy.mechanism": "central", "privacy.epsilon": 4.0}
RECORDS = 40  # of each of three clients, of 150 less a fifth


def test_a_private_run_says_what_it_spent(
    configure: Configure, tmp_path: Path, console: Console
) -> None:
    summary = simulate(configure(DPSGD), tmp_path / "run", console=console)
    privacy = summary["privacy"]
    (entry, *_) = Ledger(tmp_path / "run" / "ledger.sqlite").entries()
    wanted = epsilon_of([entry.charge] * 3, 1e-5)
    assert privacy["epsilon"] == pytest.approx(wanted)
    assert 3.9 < privacy["epsilon"] <= privacy["budget"] == 4.0
    assert (privacy["mechanism"], privacy["protects"], privacy["accountant"]) == (
        "dpsgd",
        "record",
        "prv",
    )
    assert privacy["sample_rate"] == pytest.approx(16 / RECORDS)
    assert privacy["entries"] == 9
    assert privacy["epsilon_by_data_set"] == [privacy["epsilon"]] * 3
    assert any("one record, not all records" in said for said in privacy["not_achieved"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    spent = {line["round"]: line["value"] for line in lines if line["metric"] == "epsilon"}
    assert spent[0] == 0.0
    assert 0 < spent[1] < spent[2] < spent[3] == pytest.approx(privacy["epsilon"])
    assert "epsilon" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "train_loss" not in summary["metrics"]
    assert "Epsilon spent" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        CENTRAL,
        {**CENTRAL, "strategy.scheme": "masking", "strategy.min_clients": 3},
        {
            **CENTRAL,
            "privacy.mechanism": "distributed",
            "strategy.scheme": "masking",
            "strategy.min_clients": 3,
            "privacy.colluders": 1,
        },
        {**CENTRAL, "privacy.mechanism": "local", "strategy.grid_bits": 16},
        {**CENTRAL, "privacy.clipping": "adaptive"},
        {**DPSGD, "privacy.clipping": "adaptive"},
        {**DPSGD, "privacy.clipping": "per_layer", "privacy.gradients": "opacus"},
    ],
)
def test_every_mechanism_spends_its_budget_and_no_more(
    configure: Configure, run: Run, changes: dict[str, Any]
) -> None:
    summary = run(configure(changes))
    assert summary["status"] == "finished"
    assert 3.9 < summary["privacy"]["epsilon"] <= 4.0


def test_the_budget_ends_a_run_well(configure: Configure, tmp_path: Path, console: Console) -> None:
    changes = {**CENTRAL, "privacy.noise_multiplier": 1.5, "rounds": 9}
    # Two rounds come to 3.9 and three to 5.0 by Renyi divergence.
    summary = simulate(configure(changes), tmp_path / "run", console=console)
    assert (summary["status"], summary["rounds"]) == ("budget_spent", 1)
    assert "round 2 does not start" in summary["reason"]
    assert summary["privacy"]["epsilon"] <= 4.0
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert "budget spent" in (tmp_path / "run" / "report.html").read_text()
    assert "Stopped:" in console.file.getvalue()  # type: ignore[attr-defined]
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "audit.jsonl").open()]
    assert "budget_spent" in events


def test_clients_whose_budgets_are_spent_end_the_run(configure: Configure, run: Run) -> None:
    changes = {**DPSGD, "privacy.noise_multiplier": 1.5, "rounds": 9}
    summary = run(configure(changes))
    assert summary["status"] == "budget_spent"
    assert 0 < summary["rounds"] < 9
    assert "privacy budget is spent" in summary["reason"]
    assert summary["privacy"]["epsilon"] <= 4.0
    one_more = summary["rounds"] + 1
    rate = 16 / RECORDS
    charge = Charge("gaussian", 1.5, sample_rate=rate, steps=round(1 / rate))
    assert epsilon_of([charge] * one_more, 1e-5) > 4.0


def test_a_round_that_was_cut_short_is_paid_for_twice(
    configure: Configure, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = RoundsDisplay.tell

    def interrupted(self: RoundsDisplay, event: Any) -> None:
        tell(self, event)
        if isinstance(event, RoundFinished) and event.round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RoundsDisplay, "tell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(configure(DPSGD))
    folder = tmp_path / "run"
    summary = run(resumed_config(folder, []), "ignored")
    rounds = [entry.round for entry in Ledger(folder / "ledger.sqlite").entries()]
    # Noise was sized for three rounds; the second was done twice, so that the third is not.
    assert sorted(rounds) == [1] * 3 + [2] * 6
    assert (summary["status"], summary["rounds"]) == ("budget_spent", 2)
    assert summary["privacy"]["epsilon"] <= 4.0


def test_an_adapted_norm_survives_a_resume(configure: Configure, run: Run, tmp_path: Path) -> None:
    from qfl.federation.run_folder import RunFolder

    changes = {
        **CENTRAL,
        "privacy.clipping": "adaptive",
        "privacy.clipping_norm": 3.0,
        "privacy.epsilon": None,
        "privacy.noise_multiplier": 0.01,
        "privacy.count_noise": 0.1,
    }
    run(configure(changes))
    folder = tmp_path / "run"
    before = RunFolder(folder).latest_state().clipping_norm
    assert before == pytest.approx(3 * 0.905**3, rel=0.1)  # exp(-0.2 / 2) a round: all are within
    run(resumed_config(folder, ["rounds=4"]), "ignored")
    after = RunFolder(folder).latest_state().clipping_norm
    assert after == pytest.approx(before * 0.905, rel=0.05)


def test_a_damaged_ledger_pays_for_nothing(configure: Configure, run: Run, tmp_path: Path) -> None:
    run(configure({**DPSGD, "rounds": 1}))
    ledger = tmp_path / "run" / "ledger.sqlite"
    content = bytearray(ledger.read_bytes())
    place = content.index(b"gaussian")
    content[place : place + 8] = b"gaussiam"
    ledger.write_bytes(content)
    with pytest.raises(PrivacyError, match="damaged"):
        run(resumed_config(tmp_path / "run", ["rounds=2"]), "ignored")


def test_baselines_leave_the_ledger_alone(configure: Configure, run: Run, tmp_path: Path) -> None:
    changes = {**DPSGD, "model": {"name": "qnn", "n_qubits": 2, "n_layers": 1}, "rounds": 1}
    baselines = {"baselines.plain": True, "baselines.twin": True}
    summary = run(configure({**changes, **baselines}))
    assert summary["baseline"]["plain"]["title"] == "the same without privacy"
    assert summary["privacy"]["entries"] == 3
    assert len(Ledger(tmp_path / "run" / "ledger.sqlite").entries()) == 3


def test_a_delta_beyond_one_in_all_records_is_warned_of(configure: Configure, run: Run) -> None:
    fine = run(configure({**DPSGD, "rounds": 1, "privacy.delta": 1 / 121}), "fine")
    large = run(configure({**DPSGD, "rounds": 1, "privacy.delta": 1 / 119}), "large")
    assert not any("privacy.delta" in note for note in fine["notes"])
    assert any("one in the 120 records" in note for note in large["notes"])


def test_a_model_that_cannot_be_trained_privately_is_refused_before_it_starts(
    configure: Configure, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_batch_norm(*_: Any) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))

    monkeypatch.setattr("qfl.federation.experiment.initial_model", with_batch_norm)
    with pytest.raises(PrivacyError, match=r"BatchNorm1d.*GroupNorm"):
        run(configure(DPSGD))
    assert not (tmp_path / "run" / "ledger.sqlite").exists()


def test_without_privacy_the_summary_says_so(configure: Configure, run: Run) -> None:
    privacy = run(configure())["privacy"]
    assert (privacy["mechanism"], privacy["epsilon"]) == ("none", None)
    assert any("No differential privacy" in said for said in privacy["not_achieved"])


def test_clipping_without_noise_claims_nothing(configure: Configure, run: Run) -> None:
    changes = {**DPSGD, "privacy.epsilon": None, "privacy.noise_multiplier": 0.0, "rounds": 1}
    privacy = run(configure(changes))["privacy"]
    assert privacy["epsilon"] is None
    assert any("nothing is guaranteed" in said for said in privacy["not_achieved"])
