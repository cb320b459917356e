"""A run cut short goes on as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qfl.conf.schema import ExperimentConfig
from qfl.errors import ConfigError, StorageError
from qfl.federation.display import RoundsDisplay
from qfl.federation.run_folder import RunFolder
from qfl.federation.simulate import resumed_config
from qfl.strategies import RoundFinished

Configure = Callable[..., ExperimentConfig]
Run = Callable[..., dict[str, Any]]
FEDADAM = {"strategy.server_optimizer": {"name": "fedadam", "lr": 0.05}}
MOMENTUM = {"strategy.server_optimizer": {"name": "fedavgm"}}
ENCRYPTED = {"strategy.scheme": "ckks", "strategy.trust": "key_holder"}
TIMES = ("seconds", "seconds_train", "seconds_open", "seconds_held_out")


def model_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def recorded(folder: Path) -> dict[tuple[str, int, str], float]:
    """Metrics; every one must be there once."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    keys = Counter((line["run"], line["round"], line["metric"]) for line in lines)
    assert set(keys.values()) == {1}
    return {
        (line["run"], line["round"], line["metric"]): line["value"]
        for line in lines
        if line["metric"] not in TIMES
    }


def resume(run: Run, folder: Path, **changes: int) -> dict[str, Any]:
    overrides = [f"{key}={value}" for key, value in changes.items()]
    return run(resumed_config(folder, overrides), "ignored")


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Have the run interrupted in a round, before or after a part of its records is written."""

    def arrange(round: int, moment: str) -> None:
        owner, name = {
            "display": (RoundsDisplay, "tell"),
            "metrics": (RunFolder, "record_round"),
            "checkpoint": (RunFolder, "save_checkpoint"),
        }[moment.split()[1]]
        before = getattr(owner, name)

        def interrupted(self: Any, *arguments: Any) -> Any:
            reached = any(
                getattr(value, "round", None) == round
                and (moment != "before display" or isinstance(value, RoundFinished))
                for value in arguments
            )
            if reached and moment.startswith("before"):
                raise KeyboardInterrupt
            result = before(self, *arguments)
            if reached:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(owner, name, interrupted)

    return arrange


@pytest.mark.parametrize(
    "changes",
    [{}, FEDADAM, MOMENTUM, {**ENCRYPTED, "strategy.selection": {"name": "count", "count": 2}}],
    ids=["fedavg", "fedadam", "fedavgm", "ckks-selected"],
)
def test_two_rounds_and_two_more_are_four_bit_for_bit(
    configure: Configure, run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run(configure({**changes, "rounds": 4}), "whole")
    run(configure({**changes, "rounds": 2}), "parts")
    summary = resume(run, tmp_path / "parts", rounds=4)
    assert model_of(tmp_path / "parts") == model_of(tmp_path / "whole")
    assert (summary["status"], summary["rounds"]) == ("finished", 4)
    assert summary["path"] == str(tmp_path / "parts")
    assert not (tmp_path / "ignored").exists()
    whole, parts = recorded(tmp_path / "whole"), recorded(tmp_path / "parts")
    assert parts.keys() == whole.keys()
    learnt = [key for key in whole if key[2] in ("loss", "accuracy", "train_loss", "clients")]
    assert all(whole[key] == parts[key] for key in learnt)


@pytest.mark.parametrize(
    "moment",
    ["before display", "after display", "before metrics", "after metrics", "before checkpoint",
     "after checkpoint"],
)  # fmt: skip
def test_an_interruption_at_any_moment_loses_nothing(
    configure: Configure,
    run: Run,
    tmp_path: Path,
    interrupt: Callable[[int, str], None],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    config = configure({**FEDADAM, "rounds": 4})
    run(config, "whole")
    interrupt(3, moment)
    with pytest.raises(KeyboardInterrupt):
        run(config, "cut")
    monkeypatch.undo()
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("interrupted", "Ctrl-C")
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert resume(run, tmp_path / "cut")["status"] == "finished"
    assert model_of(tmp_path / "cut") == model_of(tmp_path / "whole")
    assert recorded(tmp_path / "cut").keys() == recorded(tmp_path / "whole").keys()
    events = [json.loads(line)["event"] for line in (tmp_path / "cut" / "audit.jsonl").open()]
    assert events.count("run_interrupted") == events.count("run_resumed") == 1


def test_a_full_disk_ends_the_run_and_space_lets_it_go_on(
    configure: Configure, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"rounds": 4})
    run(config, "whole")
    replace_file = os.replace

    def full(source: Any, target: Any) -> None:
        if "round-00003" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(StorageError, match=r"round-00003.*No space left on device; free some"):
            run(config, "cut")
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["round-00001.safetensors", "round-00002.safetensors"]
    assert resume(run, tmp_path / "cut")["status"] == "finished"
    assert model_of(tmp_path / "cut") == model_of(tmp_path / "whole")
    assert recorded(tmp_path / "cut").keys() == recorded(tmp_path / "whole").keys()


def test_a_crash_in_the_middle_of_a_line_is_mended(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure(), "run")
    for name in ("metrics.jsonl", "audit.jsonl"):
        with (tmp_path / "run" / name).open("a") as file:
            file.write('{"run": "main", "ro')
    resume(run, tmp_path / "run", rounds=3)
    assert {key[1] for key in recorded(tmp_path / "run")} == {0, 1, 2, 3}
    for line in (tmp_path / "run" / "audit.jsonl").open():
        json.loads(line)


def test_patience_is_counted_across_the_interruption(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    changes = {"client.lr": 1e-9, "stop.patience": 3, "stop.min_delta": 0.01}
    run(configure({**changes, "rounds": 2}))
    summary = resume(run, tmp_path / "run", rounds=20)
    assert (summary["status"], summary["rounds"]) == ("converged", 4)


def test_more_rounds_stay_asked_for_after_another_interruption(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure({"rounds": 1}))
    resume(run, tmp_path / "run", rounds=3)
    assert RunFolder.open(tmp_path / "run")[1].rounds == 3
    assert resumed_config(tmp_path / "run", []).rounds == 3


def test_a_finished_run_resumed_is_the_same_run(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure())
    before, model = recorded(tmp_path / "run"), model_of(tmp_path / "run")
    for rounds in ({}, {"rounds": 1}):
        assert resume(run, tmp_path / "run", **rounds)["rounds"] == 2
    assert (recorded(tmp_path / "run"), model_of(tmp_path / "run")) == (before, model)


def test_baselines_are_done_again_and_recorded_once(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure({**ENCRYPTED, "rounds": 1, "baselines.plain": True}))
    summary = resume(run, tmp_path / "run", rounds=2)
    assert summary["baseline"]["plain"]["accuracy"] == summary["metrics"]["accuracy"]
    assert {key[1] for key in recorded(tmp_path / "run") if key[0] == "plain"} == {0, 1, 2}


@pytest.mark.parametrize(
    "override", ["client.lr=0.5", "seed=9", "+rounds=4", "rounds=-1", "rounds=many", "model=qnn"]
)
def test_only_more_rounds_may_be_asked_for(
    configure: Configure, run: Run, tmp_path: Path, override: str
) -> None:
    RunFolder(tmp_path / "run").write_config(configure())
    with pytest.raises(ConfigError, match=r"is not allowed with resume: .* only rounds=N may chan"):
        resumed_config(tmp_path / "run", ["resume=run", override])


def test_hydras_own_overrides_are_not_ours_to_refuse(configure: Configure, tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config(configure())
    overrides = [f"resume={tmp_path}", "hydra.run.dir=x", "rounds=5"]
    assert resumed_config(tmp_path, overrides) == configure({"rounds": 5, "resume": str(tmp_path)})


def test_a_run_without_checkpoint_is_refused(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    RunFolder(tmp_path / "run").write_config(configure())
    with pytest.raises(StorageError, match="holds no checkpoint"):
        resume(run, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused_and_the_one_before_serves(
    configure: Configure, run: Run, tmp_path: Path
) -> None:
    run(configure({"rounds": 3}), "whole")
    run(configure({"rounds": 3}), "cut")
    newest = tmp_path / "cut" / "checkpoints" / "round-00003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    records = (tmp_path / "cut" / "metrics.jsonl").read_bytes()
    with pytest.raises(StorageError, match=r"round-00003.* cannot be read: .*remove it to go on"):
        resume(run, tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == records
    newest.unlink()
    resume(run, tmp_path / "cut")
    assert model_of(tmp_path / "cut") == model_of(tmp_path / "whole")
    assert recorded(tmp_path / "cut").keys() == recorded(tmp_path / "whole").keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"name": "mlp", "hidden": 5}}, "belongs to another model: 'middle.bias' has"),
        (FEDADAM, "belongs to another server optimizer"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_and_records_kept(
    configure: Configure, run: Run, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    run(configure({"rounds": 2}))
    folder = RunFolder(tmp_path / "run")
    folder.write_config(configure({**changes, "rounds": 3}))
    with pytest.raises(StorageError, match=words):
        resume(run, tmp_path / "run")
    assert folder.rounds().keys() == {0, 1, 2}


@pytest.mark.parametrize("content", [None, "rounds: [1,"])
def test_without_its_configuration_a_run_cannot_go_on(
    configure: Configure, run: Run, tmp_path: Path, content: str | None
) -> None:
    run(configure({"rounds": 1}))
    (tmp_path / "run" / "config.yaml").unlink()
    if content:
        (tmp_path / "run" / "config.yaml").write_text(content)
    with pytest.raises(StorageError, match=r"config\.yaml"):
        resume(run, tmp_path / "run")
