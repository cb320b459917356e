"""DP-SGD's noise, its price and its settings, against values worked out on paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from qfl.errors import ConfigError, DataError, PrivacyError
from qfl.privacy import epsilon_of
from qfl.privacy.dpsgd import DpSgd, FlatParameters, NoisyGradients
from qfl.privacy.gradient_clipping import KEPT_BACK
from qfl.privacy.noised_sum import LARGEST_SIZE, SIGMA, Noise, check_size, gradient_multiplier
from qfl.privacy.per_sample import Block, Floats, Places, Rows
from qfl.privacy.randomness import Stream

KEY = bytes(32)


def places_of(size: int) -> Places:
    return Places(torch.nn.Linear(size, 1, bias=False))


def rows_as_gradients(x: torch.Tensor, y: torch.Tensor) -> list[Block]:
    """A model whose gradient for a record is the record."""
    return [Rows(x, slice(0, x.shape[1]), layer=0)]


def noisy(privacy: DpSgd, size: int, records: int) -> NoisyGradients:
    return NoisyGradients(privacy, rows_as_gradients, places_of(size), records, Stream(KEY))


def of_batches(privacy: DpSgd, x: torch.Tensor, records: int) -> Floats:
    step = noisy(privacy, x.shape[1], records)
    return np.stack([step(x, torch.zeros(len(x))) for _ in range(privacy.steps)])


@pytest.mark.parametrize(("norm", "noise"), [(1.0, 1.0), (0.25, 3.0), (40.0, 0.5)])
def test_noise_has_the_stated_size_and_the_mean_is_over_expected_batches(
    norm: float, noise: float
) -> None:
    x = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 60.0, -80.0]])
    privacy = DpSgd(noise, norm, sample_rate=0.1, steps=6000)
    drawn = of_batches(privacy, x, records=70) * 7
    clipped = sum(row * min(1.0, norm * (1 - KEPT_BACK) / float(row.norm())) for row in x)
    assert isinstance(clipped, torch.Tensor)
    for column, expected in zip(drawn.T, clipped.tolist(), strict=True):
        assert kstest((column - expected) / (noise * norm), "norm").pvalue > 1e-5
    assert abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.07


def test_what_is_added_is_whole_steps_of_the_grid() -> None:
    """Also to sums that are not on it."""
    noise = Noise(3, 50, Stream(KEY))
    step = 0.7 / SIGMA
    for _ in range(50):
        found = noise.add(np.array([0.1, -1e-5, 1 / 3]), 0.7) / step
        assert np.abs(found - np.rint(found)).max() < 1e-3


def test_without_noise_sums_are_exact() -> None:
    x = torch.tensor([[3.0, 4.0]])
    found = of_batches(DpSgd(0.0, 1.0, sample_rate=0.5), x, records=8)[0] * 4
    assert found == pytest.approx([0.6 * (1 - KEPT_BACK), 0.8 * (1 - KEPT_BACK)], rel=1e-15)


def test_an_empty_batch_is_noise_alone() -> None:
    nobody = torch.zeros((0, 2))
    drawn = of_batches(DpSgd(2.0, 1.0, sample_rate=0.1, steps=3000), nobody, records=10)
    assert kstest(drawn.reshape(-1) / 2.0, "norm").pvalue > 1e-5


@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
def test_the_price_is_the_gaussian_mechanism_s(clipping: str) -> None:
    privacy = DpSgd(1.3, clipping=clipping, sample_rate=0.02, steps=500)
    charge = privacy.charge()
    assert (charge.mechanism, charge.noise_multiplier) == ("gaussian", 1.3)
    assert (charge.sample_rate, charge.steps) == (0.02, 500)
    assert 0 < privacy.charge(1000).delta < charge.delta < 1e-8
    assert DpSgd(0.0).charge().delta == 0.0
    assert math.isinf(epsilon_of([DpSgd(0.0).charge()], 1e-5))


def test_gradient_and_count_together_cost_the_stated_multiplier() -> None:
    """Two Gaussian releases: 1/z^2 = 1/z_g^2 + 1/(2 s)^2, with sensitivity 1/2 of the count."""
    privacy = DpSgd(1.0, clipping="adaptive", count_noise=2.0)
    assert privacy.gradient_multiplier == pytest.approx(1 / math.sqrt(1 - 1 / 16))
    assert privacy.charge().noise_multiplier == 1.0
    assert DpSgd(0.0, clipping="adaptive").gradient_multiplier == 0.0
    assert gradient_multiplier(1.0, 1e9) == pytest.approx(1.0)
    with pytest.raises(PrivacyError, match=r"count_noise above 5.*clipping=flat"):
        DpSgd(10.0, clipping="adaptive", count_noise=5.0)
    assert DpSgd(10.0, clipping="flat", count_noise=5.0).gradient_multiplier == 10.0


def test_an_adaptive_norm_follows_the_quantile() -> None:
    """From far above and far below, to where 30 % of the gradients are within."""
    sizes = torch.linspace(0.5, 10.0, 400)
    x = torch.stack([sizes, torch.zeros(400)], dim=1)
    for start in (0.01, 500.0):
        privacy = DpSgd(1.0, start, "adaptive", steps=150, target_quantile=0.3, count_noise=5.0)
        step = noisy(privacy, 2, records=400)
        for _ in range(150):
            step(x, torch.zeros(400))
        assert step.clipping_norm == pytest.approx(0.5 + 0.3 * 9.5, rel=0.1)


def test_one_step_of_the_norm_is_the_paper_s() -> None:
    """C exp(-lr (b - quantile)), b the noisy fraction: with all within and little noise, b = 1."""
    x = torch.zeros((64, 2))
    privacy = DpSgd(0.01, 2.0, "adaptive", clipping_lr=0.3, target_quantile=0.2, count_noise=0.01)
    step = noisy(privacy, 2, records=64)
    step(x, torch.zeros(64))
    assert step.clipping_norm == pytest.approx(2.0 * math.exp(-0.3 * 0.8), rel=1e-3)
    # Half of the expected batch came: 32 within of 64 expected are 1/4 above the half of none.
    step = noisy(privacy, 2, records=64)
    step(x[:32], torch.zeros(32))
    assert step.clipping_norm == pytest.approx(2.0 * math.exp(-0.3 * (0.75 - 0.2)), rel=1e-3)


def test_the_noise_of_an_adaptive_norm_moves_with_it() -> None:
    privacy = DpSgd(
        1.0, 100.0, "adaptive", steps=2000, target_quantile=0.5, clipping_lr=0.002, count_noise=1.0
    )
    x = torch.full((10, 1), 1e-3)
    step = noisy(privacy, 1, records=10)
    drawn = []
    for _ in range(2000):
        norm = step.clipping_norm
        drawn.append(float(step(x, torch.zeros(10))[0]) * 10 / norm)
    assert step.clipping_norm < 20
    spread = privacy.gradient_multiplier
    assert kstest((np.array(drawn) - 0.01 / 100) / spread, "norm").pvalue > 1e-5


def test_records_that_a_layer_refuses_count_as_zero() -> None:
    """Those beside them count as always."""

    def refusing(x: torch.Tensor, y: torch.Tensor) -> list[Block]:
        if (x[:, 0] < 0).any():
            raise DataError("a row of zeros has no direction")
        return rows_as_gradients(x, y)

    x = torch.tensor([[0.5, 0.25], [-1.0, 7.0], [0.125, 0.5]])
    step = NoisyGradients(DpSgd(0.0), refusing, places_of(2), 3, Stream(KEY))
    assert (step(x, torch.zeros(3)) * 3).tolist() == [0.625, 0.75]
    assert step(x[1:2], torch.zeros(1)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"clipping_norm": 0.0}, ConfigError, "clipping_norm=0.0"),
        ({"clipping_norm": math.inf}, ConfigError, "clipping_norm=inf"),
        ({"noise_multiplier": -1.0}, ConfigError, "noise_multiplier=-1.0: must be at least 0"),
        ({"noise_multiplier": math.nan}, ConfigError, "noise_multiplier=nan"),
        ({"sample_rate": 0.0}, ConfigError, "sample_rate=0.0"),
        ({"sample_rate": 1.01}, ConfigError, "at most 1"),
        ({"steps": 0}, ConfigError, "steps=0"),
        ({"target_quantile": 1.0}, ConfigError, "target_quantile"),
        ({"clipping_lr": 0.0}, ConfigError, "clipping_lr"),
        ({"count_noise": 0.0}, ConfigError, "count_noise"),
        ({"clipping": "flatt"}, ConfigError, "did you mean 'flat'"),
        ({"gradients": "hooks"}, ConfigError, "fused, opacus"),
    ],
)
def test_settings_out_of_range_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        DpSgd(**{"noise_multiplier": 1.0, **options})


def test_what_the_arithmetic_does_not_cover_is_refused() -> None:
    check_size(LARGEST_SIZE, 1.0)
    with pytest.raises(PrivacyError, match=f"at most {LARGEST_SIZE} parameters"):
        check_size(LARGEST_SIZE + 1, 1.0)
    with pytest.raises(PrivacyError, match="at most 17 parameters"):
        check_size(100, 1e6)
    with pytest.raises(PrivacyError, match=r"lower privacy\.sample_rate, to 0\.0328 at most"):
        noisy(DpSgd(1.0, sample_rate=0.5), 2, records=1_000_000)


def test_parameters_as_one_vector() -> None:
    model = torch.nn.Linear(2, 1)
    before = [one.detach().clone() for one in model.parameters()]
    flat = FlatParameters(Places(model))
    with torch.no_grad():
        flat.vector.add_(1.0)
    flat.close()
    flat.vector.data.zero_()
    for was, now in zip(before, model.parameters(), strict=True):
        assert torch.equal(now, was + 1.0)
    for wrong in (model.double(), torch.nn.Linear(2, 1, device="meta")):
        with pytest.raises(PrivacyError, match="in float32"):
            FlatParameters(Places(wrong))
