"""Checkpoints: exact, few, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from qfl.errors import StorageError
from qfl.federation.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from qfl.strategies import ServerState


def state(round: int = 3) -> ServerState:
    rng = np.random.default_rng(round)
    return ServerState(
        round=round,
        arrays={
            "post.weight": rng.normal(size=(2, 3)).astype(np.float32),
            "bias": rng.normal(size=2).astype(np.float32),
            "steps": np.array(7, dtype=np.int64),
        },
        optimizer={"first": rng.normal(size=9), "second": rng.normal(size=9)},
        losses=[1.5, 0.1 + 0.2, 1e-300],
    )


def test_a_state_comes_back_bit_for_bit_and_in_order(tmp_path: Path) -> None:
    before = state()
    after = load_checkpoint(save_checkpoint(tmp_path, before))
    assert (after.round, after.losses) == (before.round, before.losses)
    assert list(after.arrays) == list(before.arrays)
    for ours, theirs in ((before.arrays, after.arrays), (before.optimizer, after.optimizer)):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.dtype == theirs[name].dtype
            np.testing.assert_array_equal(array, theirs[name])


def test_a_state_without_optimizer_and_losses(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, ServerState(1, {"w": np.zeros(1, np.float32)}, {}))
    after = load_checkpoint(path)
    assert (after.round, after.optimizer, after.losses) == (1, {}, [])


def test_the_two_newest_are_kept_in_numeric_order(tmp_path: Path) -> None:
    (tmp_path / "round-00001.txt").write_text("not a checkpoint, and not ours to delete")
    for number in (99_998, 99_999, 100_000):
        save_checkpoint(tmp_path, state(number))
    assert newest_checkpoint(tmp_path).name == "round-100000.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-00001.txt",
        "round-100000.safetensors",
        "round-99999.safetensors",
    ]


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no checkpoint: the run stopped before its first"):
        newest_checkpoint(tmp_path)
    with pytest.raises(StorageError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path / "nowhere")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state())
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(StorageError, match=r"round-00003.safetensors cannot be read: .*remove"):
            load_checkpoint(path)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state())
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    padding = whole[:header].rstrip(b" ")
    for position in [*range(0, len(padding), 5), *range(header, len(whole))]:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StorageError):
            load_checkpoint(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "round-00001.safetensors"
    save_file({"w": np.zeros(2)}, path)
    with pytest.raises(StorageError, match="has format None; this version reads 'qfl-checkpoint-1"):
        load_checkpoint(path)
    save_file({"w": np.zeros(2)}, path, metadata={"format": "qfl-checkpoint-2"})
    with pytest.raises(StorageError, match="has format 'qfl-checkpoint-2'"):
        load_checkpoint(path)
    save_file({"w": np.zeros(2)}, path, metadata={"format": "qfl-checkpoint-1"})
    with pytest.raises(StorageError, match="cannot be read"):
        load_checkpoint(path)
