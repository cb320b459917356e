"""The memory estimate, and the refusal of circuits that do not fit."""

from __future__ import annotations

import pytest

from qfl.conf.schema import QnnConfig, QuantumConfig
from qfl.errors import ConfigError
from qfl.models import DataShape, build_model
from qfl.quantum import check_memory, memory, memory_needed


def test_bytes_by_hand() -> None:
    # 5 gates: 9 states of 2 examples, 2^3 amplitudes, 16 bytes each.
    assert memory_needed(3, batch=2, gates=5, diff_method="backprop") == 9 * 2 * 8 * 16
    assert memory_needed(3, batch=2, gates=5, diff_method="adjoint") == 4 * 2 * 8 * 16


def test_one_more_qubit_doubles_it() -> None:
    of = [memory_needed(n, 4, 10, "backprop") for n in (5, 6)]
    assert of[1] == 2 * of[0]


def test_this_machine_has_some_memory() -> None:
    assert 2**20 < memory.available_memory() < 2**50


def test_the_limit_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory_needed(4, 1, 3, "adjoint")
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    check_memory(4, 1, 3, "adjoint")
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(ConfigError, match="use fewer qubits"):
        check_memory(4, 1, 3, "adjoint")


def test_thirty_qubits_are_refused_with_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 16 * 2**30)
    shape = DataShape(features=4, window=0, outputs=3, batch=32)
    # 2 layers of 3 angles on 30 wires: 184 states x 32 examples x 16 GiB.
    words = r"n_qubits=30 needs about 94,208.0 GiB of memory for 32 states .* 16.0 GiB are free"
    with pytest.raises(ConfigError, match=words):
        build_model(QnnConfig(n_qubits=30), QuantumConfig(), shape)
