from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import jv

from qfl.conf.schema import DatasetConfig
from qfl.data import load_dataset, timeseries
from qfl.data.timeseries import bessel_j2, damped_oscillator, narma10, narma10_series, windows
from qfl.errors import DataError


def _config(name: str, **values: object) -> DatasetConfig:
    return DatasetConfig(name=name, task="regression", **values)  # type: ignore[arg-type]


def test_bessel_at_known_points() -> None:
    series = bessel_j2(101)
    # Tables: Abramowitz and Stegun, chapter 9.
    assert series[[10, 20, 50, 100]] == pytest.approx(
        [0.1149034849, 0.3528340286, 0.0465651163, 0.2546303137], abs=1e-9
    )
    assert series[37] == pytest.approx(2 / 3.7 * jv(1, 3.7) - jv(0, 3.7), abs=1e-12)


def test_the_oscillator_solves_its_equation() -> None:
    solved = solve_ivp(
        lambda _, s: [s[1], -0.02 * s[1] - s[0]],
        (0, 30),
        [1.0, 0.0],
        t_eval=0.1 * np.arange(300),
        rtol=1e-10,
        atol=1e-12,
    )
    assert damped_oscillator(300) == pytest.approx(solved.y[0], abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 0.5), min_size=11, max_size=40))
def test_narma_follows_the_recurrence(inputs: list[float]) -> None:
    y = [0.0 for _ in inputs]
    for now in range(10, len(inputs)):
        total = 0.0
        for back in range(1, 11):
            total += y[now - back]
        y[now] = (
            0.3 * y[now - 1]
            + 0.05 * y[now - 1] * total
            + 1.5 * inputs[now - 10] * inputs[now - 1]
            + 0.1
        )
    assert narma10(np.array(inputs)) == pytest.approx(np.array(y), rel=1e-12, abs=1e-15)


def test_narma_series_holds_input_and_output_of_one_system() -> None:
    series = narma10_series(200, seed=1)
    u, y = series[:, 0], series[:, 1]
    assert series.shape == (200, 2)
    assert u.min() >= 0
    assert u.max() <= 0.5
    t = 150
    expected = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
    assert y[t + 1] == pytest.approx(expected)
    assert np.array_equal(series, narma10_series(200, seed=1))
    assert not np.array_equal(series, narma10_series(200, seed=2))


def test_a_diverging_input_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = narma10, []

    def diverges_once(u: np.ndarray) -> np.ndarray:
        calls.append(u)
        return np.full(len(u), np.nan) if len(calls) == 1 else real(u)

    monkeypatch.setattr(timeseries, "narma10", diverges_once)
    series = narma10_series(60, seed=0)
    assert len(calls) == 2
    assert np.array_equal(series[:, 0], calls[1][100:])


def test_narma_itself_can_diverge() -> None:
    with np.errstate(all="ignore"):
        assert not np.abs(narma10(np.full(400, 0.9))).max() <= 1.0


def test_an_input_that_always_diverges_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeseries, "narma10", lambda u: np.full(len(u), np.inf))
    with pytest.raises(DataError, match=r"diverged for 100 random inputs of 50 points"):
        narma10_series(50, seed=0)


@settings(deadline=None, max_examples=40)
@given(points=st.integers(2, 60), window=st.integers(1, 59), channels=st.integers(1, 3))
def test_windows_are_consecutive_points_and_the_next_value(
    points: int, window: int, channels: int
) -> None:
    series = np.arange(points * channels, dtype=float).reshape(points, channels)
    if points <= window:
        with pytest.raises(DataError, match=f"{points} points is too short for window={window}"):
            windows(series, window)
        return
    cut = windows(series, window)
    assert cut.x.shape == (points - window, window, channels)
    for i in range(len(cut)):
        assert np.array_equal(cut.x[i], series[i : i + window])
        assert cut.y[i] == series[i + window, -1]


@pytest.mark.parametrize("name", ["bessel_j2", "damped_oscillator", "narma10"])
def test_the_test_part_is_last_and_no_window_straddles_the_split(name: str) -> None:
    dataset = load_dataset(_config(name, length=100, window=7, test_fraction=0.3), 0)
    channels = 2 if name == "narma10" else 1
    assert dataset.train.x.shape == (63, 7, channels)
    assert dataset.test.x.shape == (23, 7, channels)
    assert dataset.train.x.dtype == dataset.train.y.dtype == np.float32
    series = {
        "bessel_j2": lambda: bessel_j2(100)[:, None],
        "damped_oscillator": lambda: damped_oscillator(100)[:, None],
        "narma10": lambda: narma10_series(100, 0),
    }[name]().astype(np.float32)
    assert np.array_equal(dataset.train.x[-1], series[62:69])
    assert dataset.train.y[-1] == series[69, -1]
    assert np.array_equal(dataset.test.x[0], series[70:77])
    assert np.array_equal(dataset.test.y, series[77:, -1])


def test_a_length_too_short_for_the_window_is_refused() -> None:
    message = r"dataset.length=60 .*48 training and 12 test points.*window=12.*at least 13 points"
    with pytest.raises(DataError, match=message):
        load_dataset(_config("bessel_j2", length=60, window=12), 0)
    assert len(load_dataset(_config("bessel_j2", length=65, window=12), 0).test) == 1
