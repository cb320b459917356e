"""Checkpoints: the server's state after a round, in one safetensors file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from qfl.crypto import Arrays
from qfl.errors import StorageError
from qfl.federation.files import write_atomic
from qfl.strategies import ServerState

FORMAT = "qfl-checkpoint-1"
KEPT = 2


def save_checkpoint(folder: Path, state: ServerState) -> Path:
    """Write the state; the two newest checkpoints are kept.

    Raises:
        StorageError: The disk is full; the previous checkpoint is untouched.
    """
    from safetensors.numpy import save

    tensors = {f"model/{name}": array for name, array in state.arrays.items()}
    tensors |= {f"optimizer/{name}": array for name, array in state.optimizer.items()}
    metadata = {
        "format": FORMAT,
        "round": str(state.round),
        "losses": json.dumps(state.losses),
        "clipping_norm": repr(state.clipping_norm),
        "names": json.dumps(list(state.arrays)),
    }
    metadata["sha256"] = _digest(tensors, metadata)
    path = folder / f"round-{state.round:05d}.safetensors"
    write_atomic(path, save(tensors, metadata=metadata))
    for old in _checkpoints(folder)[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def load_checkpoint(path: Path) -> ServerState:
    """Read a state.

    Raises:
        StorageError: The file cannot be read, is damaged, or is no checkpoint of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise StorageError(
                f"{path} has format {metadata.get('format')!r}; this version reads {FORMAT!r}"
            )
        if _digest(tensors, metadata) != metadata["sha256"]:
            raise ValueError("its digest does not match its content")
        names = json.loads(metadata["names"])
        return ServerState(
            round=int(metadata["round"]),
            arrays={name: tensors[f"model/{name}"] for name in names},
            optimizer={
                name.removeprefix("optimizer/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("optimizer/")
            },
            losses=json.loads(metadata["losses"]),
            clipping_norm=float(metadata.get("clipping_norm", 0.0)),
        )
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"checkpoint {path} cannot be read: {error}; remove it to go on from an earlier one"
        ) from None


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint of the latest round.

    Raises:
        StorageError: There is none.
    """
    found = _checkpoints(folder)
    if not found:
        raise StorageError(f"{folder} holds no checkpoint: the run stopped before its first round")
    return found[-1]


def _checkpoints(folder: Path) -> list[Path]:
    found = {
        int(match[1]): path
        for path in folder.glob("*.safetensors")
        if (match := re.match(r"round-(\d+)\.", path.name))
    }
    return [found[number] for number in sorted(found)]


def _digest(tensors: Arrays, metadata: Mapping[str, str]) -> str:
    others = sorted((key, value) for key, value in metadata.items() if key != "sha256")
    digest = hashlib.sha256(json.dumps(others).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
