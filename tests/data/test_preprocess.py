from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from qfl.conf.schema import DatasetConfig
from qfl.data import (
    Examples,
    Moments,
    fit_statistics,
    load_dataset,
    moments,
    public_statistics,
)
from qfl.errors import ConfigError, DataError


def _regression(n: int = 60, features: int = 5, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, features)) @ rng.normal(size=(features, features)) + 3
    return Examples(mixed.astype(np.float32), rng.normal(50, 7, n).astype(np.float32))


@settings(deadline=None, max_examples=50)
@given(
    cut=st.integers(0, 60),
    cross=st.booleans(),
    target=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_moments_add_up_over_clients(cut: int, cross: bool, target: bool, seed: int) -> None:
    examples = _regression(seed=seed)
    parts = [examples.take(range(cut)), examples.take(range(cut, 60))]
    vectors = [moments(part, cross=cross, target=target).to_vector() for part in parts]
    whole = moments(examples, cross=cross, target=target)
    assert len(vectors[0]) == Moments.length(5, cross, target)
    assert vectors[0] + vectors[1] == pytest.approx(whole.to_vector(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("target", [False, True])
def test_the_vector_form_loses_nothing(cross: bool, target: bool) -> None:
    vector = moments(_regression(), cross=cross, target=target).to_vector()
    back = Moments.from_vector(vector, 5, cross, target)
    assert back.cross == cross
    assert (back.target is not None) == target
    assert np.array_equal(back.to_vector(), vector)


def test_moments_worked_out_by_hand() -> None:
    examples = Examples(
        np.array([[1, 2], [3, 5]], np.float32), np.array([10, 20], dtype=np.float32)
    )
    squares = moments(examples, cross=False, target=True).to_vector()
    assert squares.tolist() == [2, 4, 7, 10, 29, 2, 30, 500]
    products = moments(examples, cross=True, target=False).to_vector()
    assert products.tolist() == [2, 4, 7, 10, 17, 29]


def test_windows_count_as_rows_of_channels() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    found = moments(Examples(x, np.array([1, 3], np.float32)), cross=False, target=True)
    assert found.count == 6
    assert found.total.tolist() == [30, 36]
    assert found.target is not None
    assert found.target.tolist() == [2, 4, 10]
    scaled = fit_statistics(found, scale="standard", pca=None).apply(
        Examples(x, np.array([1, 3], np.float32))
    )
    assert scaled.x.shape == (2, 3, 2)
    assert scaled.x.reshape(-1, 2).mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert scaled.x.reshape(-1, 2).std(axis=0) == pytest.approx([1, 1], abs=1e-6)
    assert scaled.y.tolist() == [-1, 1]


@pytest.mark.parametrize("cross", [False, True])
def test_standard_scaling_equals_scikit_learns(cross: bool) -> None:
    raw = load_dataset(DatasetConfig(name="breast_cancer"), 0)
    found = moments(raw.train, cross=cross, target=False)
    ours = fit_statistics(found, scale="standard", pca=None)
    theirs = StandardScaler().fit(raw.train.x.astype(np.float64))
    assert ours.mean == pytest.approx(theirs.mean_, rel=1e-9)
    assert ours.scale == pytest.approx(theirs.scale_, rel=1e-6)
    applied = ours.apply(raw.test)
    assert applied.x.dtype == np.float32
    assert applied.x == pytest.approx(theirs.transform(raw.test.x), abs=1e-4)
    assert np.array_equal(applied.y, raw.test.y)


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_principal_components_equal_scikit_learns_up_to_sign(scale: str) -> None:
    raw = load_dataset(DatasetConfig(name="wine"), 0)
    ours = fit_statistics(moments(raw.train, cross=True, target=False), scale=scale, pca=4)
    prepared = raw.train.x.astype(np.float64)
    if scale == "standard":
        prepared = StandardScaler().fit_transform(prepared)
    theirs = PCA(n_components=4, svd_solver="full").fit(prepared)
    assert ours.components is not None
    cosines = np.sum(ours.components * theirs.components_, axis=1)
    assert np.abs(cosines) == pytest.approx(np.ones(4), abs=1e-6)
    projected = ours.apply(raw.train).x
    assert projected.shape == (len(raw.train), 4)
    assert projected == pytest.approx(
        theirs.transform(prepared) * np.sign(cosines), rel=1e-3, abs=1e-3
    )


def test_the_sign_of_components_is_fixed() -> None:
    found = moments(_regression(), cross=True, target=False)
    components = fit_statistics(found, scale="standard", pca=5).components
    assert components is not None
    for row in components:
        assert row[np.abs(row).argmax()] > 0


def test_no_scaling_is_the_identity_on_features_and_scales_the_target() -> None:
    examples = _regression()
    statistics = fit_statistics(moments(examples, cross=False, target=True), scale="none", pca=None)
    applied = statistics.apply(examples)
    assert np.array_equal(applied.x, examples.x)
    assert applied.y.mean() == pytest.approx(0, abs=1e-5)
    assert applied.y.std() == pytest.approx(1, abs=1e-5)
    assert statistics.restore_target(applied.y) == pytest.approx(examples.y, rel=1e-6)


def test_without_target_moments_the_target_stays() -> None:
    examples = _regression()
    statistics = fit_statistics(
        moments(examples, cross=False, target=False), scale="standard", pca=None
    )
    assert np.array_equal(statistics.apply(examples).y, examples.y)


@settings(deadline=None, max_examples=80)
@given(
    value=st.floats(-1e4, 1e4, width=32),
    n=st.integers(1, 300),
    noise=st.tuples(*[st.floats(-1e-6, 1e-6)] * 4),
)
def test_constant_features_are_centred_only(
    value: float, n: int, noise: tuple[float, float, float, float]
) -> None:
    examples = Examples(np.full((n, 1), value, np.float32), np.full(n, value, np.float32))
    vector = moments(examples, cross=False, target=True).to_vector()
    vector[[1, 2, 4, 5]] += noise
    statistics = fit_statistics(
        Moments.from_vector(vector, 1, False, True), scale="standard", pca=None
    )
    assert statistics.scale.tolist() == [1.0]
    assert statistics.target_scale == 1.0
    applied = statistics.apply(examples)
    assert np.abs(applied.x).max() <= 2e-6
    assert np.abs(applied.y).max() <= 2e-6


def test_a_small_spread_is_not_taken_for_a_constant() -> None:
    x = np.random.default_rng(0).normal(0.01, 0.003, (400, 1)).astype(np.float32)
    examples = Examples(x, np.zeros(400, np.int64))
    found = moments(examples, cross=False, target=False)
    assert fit_statistics(found, scale="standard", pca=None).scale == pytest.approx(
        x.std(axis=0), rel=1e-3
    )
    exact = fit_statistics(
        moments(Examples(x * 1e-3, examples.y), cross=False, target=False),
        scale="standard",
        pca=None,
        tolerance=0.0,
    )
    assert exact.scale == pytest.approx(x.std(axis=0) * 1e-3, rel=1e-3)


def test_components_with_a_constant_feature_are_finite_and_ignore_it() -> None:
    examples = _regression()
    examples.x[:, 2] = 7
    found = moments(examples, cross=True, target=False)
    components = fit_statistics(found, scale="standard", pca=4).components
    assert components is not None
    assert np.abs(components[:, 2]).max() < 1e-6


def test_the_public_range_is_mapped_to_minus_one_and_one() -> None:
    x = np.array([[0, 8, 16]], np.float32)
    statistics = public_statistics((0.0, 16.0), 3)
    assert statistics.apply(Examples(x, np.array([0]))).x.tolist() == [[-1, 0, 1]]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_public_without_scaling_is_the_identity(task: str) -> None:
    examples = _regression()
    applied = public_statistics(None, 5, scale="none", task=task).apply(examples)
    assert np.array_equal(applied.x, examples.x)
    assert np.array_equal(applied.y, examples.y)


def test_a_range_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has none.*preprocess.fit=federated or .*fit=local"):
        public_statistics(None, 3)


def test_a_public_regression_target_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"regression target.*preprocess.fit=federated"):
        public_statistics((0.0, 1.0), 3, task="regression")


def test_public_components_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"preprocess.pca=2 is fitted on data"):
        public_statistics((0.0, 1.0), 3, pca=2)


def test_an_empty_public_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        public_statistics((1.0, 1.0), 3)


def test_an_unknown_scale_is_refused() -> None:
    found = moments(_regression(), cross=False, target=False)
    with pytest.raises(ConfigError, match=r"unknown preprocess.scale 'standart'; did you mean"):
        fit_statistics(found, scale="standart", pca=None)
    with pytest.raises(ConfigError, match=r"unknown preprocess.scale 'minmax'"):
        public_statistics((0.0, 1.0), 3, scale="minmax")


def test_more_components_than_features_are_refused() -> None:
    found = moments(_regression(), cross=True, target=False)
    with pytest.raises(ConfigError, match="pca=6 is not allowed with 5 features"):
        fit_statistics(found, scale="standard", pca=6)


def test_components_need_products() -> None:
    found = moments(_regression(), cross=False, target=False)
    with pytest.raises(DataError, match="cross=True"):
        fit_statistics(found, scale="standard", pca=2)


def test_components_of_windows_are_refused() -> None:
    windows = Examples(np.zeros((4, 3, 5), np.float32), np.zeros(4, np.float32))
    with pytest.raises(ConfigError, match=r"windows of shape \(3, 5\): set preprocess.pca=null"):
        moments(windows, cross=True, target=False)
    found = moments(_regression(), cross=True, target=False)
    with pytest.raises(ConfigError, match="windows"):
        fit_statistics(found, scale="standard", pca=2).apply(windows)


def test_target_moments_of_classes_are_refused() -> None:
    examples = Examples(np.zeros((2, 1), np.float32), np.array([0, 1]))
    with pytest.raises(DataError, match="are classes"):
        moments(examples, cross=False, target=True)


def test_statistics_of_nothing_are_refused() -> None:
    found = moments(_regression().take([]), cross=False, target=False)
    assert found.count == 0
    with pytest.raises(DataError, match="no examples"):
        fit_statistics(found, scale="standard", pca=None)


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(6,\).*that takes 7 numbers"):
        Moments.from_vector(np.zeros(6), 3, cross=False, target=False)


def test_a_vector_with_nan_is_refused() -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        Moments.from_vector(np.array([1, np.nan, 1]), 1, cross=False, target=False)


def test_examples_with_other_features_are_refused() -> None:
    statistics = public_statistics((0.0, 1.0), 3)
    with pytest.raises(DataError, match="of 3 features, and the examples have 5"):
        statistics.apply(_regression())
