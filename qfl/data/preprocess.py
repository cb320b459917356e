"""Scaling and projection of features, from statistics that add up over clients.

One idea: mean, variance and principal components are all functions of sums over examples. Each
client computes its sums (:func:`moments`), the sums are added, in the clear or through an
aggregation scheme, and everybody derives the same :class:`Statistics` from the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qfl.data.examples import Examples
from qfl.errors import ConfigError, DataError, unknown_name

_SCALES = ("none", "standard")


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over examples, in float64; they add up over clients.

    Attributes:
        count: Number of rows (examples, or points of all windows).
        total: Sum of each feature, (features,).
        products: Sum of each feature's square, (features,), or with ``cross`` of the products
            of all pairs of features: the upper triangle, row by row,
            (features * (features + 1) / 2,).
        cross: Whether ``products`` holds all pairs, which principal components need.
        target: Number, sum and sum of squares of the targets, (3,); None without them.
    """

    count: float
    total: NDArray[np.float64]
    products: NDArray[np.float64]
    cross: bool
    target: NDArray[np.float64] | None

    @staticmethod
    def length(features: int, cross: bool, target: bool) -> int:
        """Entries of the vector form.

        >>> Moments.length(3, cross=False, target=True), Moments.length(3, True, False)
        (10, 10)
        """
        products = features * (features + 1) // 2 if cross else features
        return 1 + features + products + (3 if target else 0)

    def to_vector(self) -> NDArray[np.float64]:
        """Count, totals, products and target sums, one after the other."""
        tail = [] if self.target is None else [self.target]
        return np.concatenate([[self.count], self.total, self.products, *tail])

    @staticmethod
    def from_vector(
        vector: NDArray[np.float64], features: int, cross: bool, target: bool
    ) -> Moments:
        """The inverse of :meth:`to_vector`.

        Raises:
            DataError: The vector has another length, or holds NaN or infinity.
        """
        flat = np.asarray(vector, dtype=np.float64)
        expected = Moments.length(features, cross, target)
        if flat.shape != (expected,):
            raise DataError(
                f"a vector of shape {flat.shape} cannot hold the moments of {features} features "
                f"with cross={cross} and target={target}: that takes {expected} numbers"
            )
        if not np.isfinite(flat).all():
            raise DataError("moments hold NaN or infinity: check the data that they came from")
        end = expected - 3 if target else expected
        return Moments(
            count=float(flat[0]),
            total=flat[1 : 1 + features].copy(),
            products=flat[1 + features : end].copy(),
            cross=cross,
            target=flat[end:].copy() if target else None,
        )


@dataclass(frozen=True, eq=False)
class Statistics:
    """An affine map of the features, a projection, and a scaling of a regression target.

    Attributes:
        mean: Subtracted from each feature, (features,).
        scale: Divides each feature after that, (features,).
        components: Rows to project on, (k, features); None to keep all features.
        target_mean: Subtracted from a regression target.
        target_scale: Divides a regression target after that.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64] | None = None
    target_mean: float = 0.0
    target_scale: float = 1.0

    def apply(self, examples: Examples) -> Examples:
        """Scaled and projected float32 examples; class indices stay as they are.

        Raises:
            DataError: The examples have another number of features.
            ConfigError: A projection is applied to windows.
        """
        if examples.features != len(self.mean):
            raise DataError(
                f"the statistics are of {len(self.mean)} features, and the examples have "
                f"{examples.features}: fit and apply on the same columns"
            )
        x = (examples.x - self.mean) / self.scale
        if self.components is not None:
            _refuse_windows(examples)
            x = x @ self.components.T
        y = examples.y
        if np.issubdtype(y.dtype, np.floating):
            y = ((y - self.target_mean) / self.target_scale).astype(np.float32)
        return Examples(x.astype(np.float32), y)

    def restore_target(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Scaled regression targets, or predictions of them, in the original units."""
        return np.asarray(y, dtype=np.float64) * self.target_scale + self.target_mean


def moments(examples: Examples, *, cross: bool, target: bool) -> Moments:
    """Sums over examples; windows (n, window, channels) count as n * window rows.

    Args:
        examples: One client's examples; none at all is allowed and gives zeros.
        cross: Also sum products of different features.
        target: Also sum a regression target and its square.

    Raises:
        ConfigError: ``cross`` is asked of windows.
        DataError: ``target`` is asked of class indices.

    Example:
        >>> x = np.array([[1, 2], [3, 4]], np.float32)
        >>> moments(Examples(x, np.array([0, 1])), cross=True, target=False).to_vector().tolist()
        [2.0, 4.0, 6.0, 10.0, 14.0, 20.0]
    """
    if cross:
        _refuse_windows(examples)
    if target and not np.issubdtype(examples.y.dtype, np.floating):
        raise DataError(
            f"targets of type {examples.y.dtype} are classes and have no mean: target moments "
            "are for regression"
        )
    rows = examples.x.reshape(-1, examples.features).astype(np.float64)
    y = examples.y.astype(np.float64)
    if cross:
        products = (rows.T @ rows)[np.triu_indices(examples.features)]
    else:
        products = np.square(rows).sum(axis=0)
    return Moments(
        count=float(len(rows)),
        total=rows.sum(axis=0),
        products=products,
        cross=cross,
        target=np.array([len(y), y.sum(), np.square(y).sum()]) if target else None,
    )


def fit_statistics(
    moments: Moments, *, scale: str, pca: int | None, tolerance: float = 1e-6
) -> Statistics:
    """Statistics from summed moments.

    ``scale="standard"`` gives mean 0 and (population) variance 1 per feature; ``"none"`` leaves
    features as they are. Principal components are those of the scaled features, which are
    centred in either case, so that ``scale="none"`` without ``pca`` is the identity on x. A
    regression target is standardised whenever the moments hold its sums, whatever ``scale``.

    Args:
        moments: Sums over all examples.
        scale: ``none`` or ``standard``.
        pca: Number of principal components; needs moments with ``cross``.
        tolerance: Absolute error that the sums may carry, such as from rounding to the grid of
            an aggregation scheme. A feature whose variance is not above what such an error
            makes counts as constant and is centred only.

    Raises:
        ConfigError: ``scale`` is unknown, or ``pca`` exceeds the features.
        DataError: The moments are of no examples, or lack products that ``pca`` needs.
    """
    features = len(moments.total)
    if scale not in _SCALES:
        raise ConfigError(unknown_name("preprocess.scale", scale, _SCALES))
    if pca is not None and not 1 <= pca <= features:
        raise ConfigError(
            f"preprocess.pca={pca} is not allowed with {features} features: must be between 1 "
            f"and {features}"
        )
    if pca is not None and not moments.cross:
        raise DataError(
            f"preprocess.pca={pca} needs products of all pairs of features: compute the moments "
            "with cross=True"
        )
    if moments.count < 0.5:
        raise DataError("statistics cannot be fitted on no examples: give at least one")
    mean = moments.total / moments.count
    spread = np.ones(features)
    if scale == "standard":
        squares = _diagonal(moments.products, features) if moments.cross else moments.products
        spread = _deviation(moments.count, mean, squares, tolerance)
    target_mean, target_scale = 0.0, 1.0
    if moments.target is not None:
        n, total, squares = moments.target
        target_mean = float(total / n)
        target_scale = float(_deviation(n, total / n, squares, tolerance))
    if scale == "none" and pca is None:
        mean = np.zeros(features)
    components = None
    if pca is not None:
        components = _components(moments, mean, spread, pca)
    return Statistics(mean, spread, components, target_mean, target_scale)


def public_statistics(
    public_range: tuple[float, float] | None,
    features: int,
    *,
    scale: str = "standard",
    pca: int | None = None,
    task: str = "classification",
) -> Statistics:
    """Statistics from what everybody knows, which cost no privacy and no message.

    ``scale="standard"`` maps the known range to [-1, 1]; ``"none"`` is the identity and leaves a
    regression target unscaled too.

    Args:
        public_range: Lowest and highest value of every feature; None where nobody knows one.
        features: Number of features.
        scale: ``none`` or ``standard``.
        pca: Must be None: components come from data.
        task: ``classification`` or ``regression``.

    Raises:
        ConfigError: The range is not known, or ``pca`` or a regression target needs data.

    Example:
        >>> digits = public_statistics((0.0, 16.0), 2)
        >>> digits.apply(Examples(np.array([[0, 16]], np.float32), np.array([0]))).x.tolist()
        [[-1.0, 1.0]]
    """
    advice = "use preprocess.fit=federated or preprocess.fit=local"
    if scale not in _SCALES:
        raise ConfigError(unknown_name("preprocess.scale", scale, _SCALES))
    if pca is not None:
        raise ConfigError(
            f"preprocess.pca={pca} is fitted on data, which preprocess.fit=public does not look "
            f"at: {advice}"
        )
    if scale == "none":
        return Statistics(np.zeros(features), np.ones(features))
    if task == "regression":
        raise ConfigError(
            "preprocess.fit=public cannot scale a regression target, whose range is not publicly "
            f"known: {advice}"
        )
    if public_range is None:
        raise ConfigError(
            "preprocess.fit=public needs a range of the features that everybody knows, and this "
            f"data set has none: {advice}"
        )
    low, high = public_range
    if not high > low:
        raise ConfigError(f"public range ({low}, {high}) is empty: the second must be larger")
    return Statistics(np.full(features, (high + low) / 2), np.full(features, (high - low) / 2))


def _deviation(
    count: float, mean: NDArray[np.float64], squares: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Population standard deviation; 1 where the variance is within the error of the sums."""
    variance = squares / count - np.square(mean)
    # The error of the sums carried through the line above, doubled for a margin, and what
    # float64 itself loses in the subtraction.
    error = 2 * tolerance / count * (1 + 2 * np.abs(mean))
    error = error + 64 * np.finfo(np.float64).eps * np.square(mean)
    deviation: NDArray[np.float64] = np.where(
        variance > error, np.sqrt(np.maximum(variance, 0)), 1.0
    )
    return deviation


def _diagonal(products: NDArray[np.float64], features: int) -> NDArray[np.float64]:
    rows, columns = np.triu_indices(features)
    diagonal: NDArray[np.float64] = products[rows == columns]
    return diagonal


def _components(
    moments: Moments, mean: NDArray[np.float64], spread: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    features = len(mean)
    second = np.zeros((features, features))
    second[np.triu_indices(features)] = moments.products / moments.count
    second = np.triu(second) + np.triu(second, 1).T
    covariance = (second - np.outer(mean, mean)) / np.outer(spread, spread)
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :k].T
    # eigh leaves the sign open; everybody must choose the same one.
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(k), largest])
    return np.ascontiguousarray(components * signs[:, None])


def _refuse_windows(examples: Examples) -> None:
    if examples.x.ndim != 2:
        raise ConfigError(
            f"preprocess.pca projects rows of features, and these examples are windows of shape "
            f"{examples.x.shape[1:]}: set preprocess.pca=null"
        )
