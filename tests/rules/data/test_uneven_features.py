import numpy as np
import pytest

from unstuck.rules.data.uneven_features import MAX_RATIO, UnevenFeatures

from ..helpers import check_fires, check_lacks, check_silent, normal
from .given import fed, give

RANDOM = np.random.default_rng(3)


def uniform(*widths, rows=64):
    """Features whose extremes are exactly ± their width, and whose standard deviation is their width too."""
    signs = np.where(np.arange(rows)[:, None] % 2, 1.0, -1.0)
    return signs * np.array(widths)


class TestSilent:
    def test_even_features(self):
        check_silent(UnevenFeatures, fed(normal(1.0, 64, 6))[0].trace)

    def test_below_the_threshold(self):
        check_silent(UnevenFeatures, fed(uniform(1.0, 0.99 * MAX_RATIO))[0].trace)

    def test_one_hot_and_rare_flags_beside_numbers(self):
        x = np.concatenate([normal(100.0, 4000, 2), np.eye(4000)[:, :3]], axis=1)
        check_silent(UnevenFeatures, fed(x, steps=range(4))[0].trace)

    def test_sines_of_the_time(self):
        frequencies = 10.0 ** -np.arange(0, 6)
        x = np.sin(RANDOM.uniform(0, 6, (400, 1)) * frequencies)
        check_silent(UnevenFeatures, fed(x, steps=range(4))[0].trace)
        b, layer = fed(1.1 * x, steps=range(4))
        check_fires(UnevenFeatures, b.trace, at=layer)

    def test_constant_features(self):
        x = uniform(1.0, 1.0, 0.0) + np.array([0.0, 0.0, 5.0])
        check_silent(UnevenFeatures, fed(x)[0].trace)

    def test_a_constant_feature_with_rounding_noise(self):
        x = uniform(100.0, 1.0, 2e-6) + np.array([0.0, 0.0, 5.0])
        check_silent(UnevenFeatures, fed(x)[0].trace)

    def test_pixels_at_the_border_after_standardising_all_together(self):
        x = RANDOM.integers(0, 256, (400, 5)).astype(float)
        x[:, 4] = 0.0
        x[7, 4] = 1.0
        check_silent(UnevenFeatures, fed((x - x.mean()) / x.std(), steps=range(4))[0].trace)

    def test_a_single_feature(self):
        b, _ = fed(normal(1.0, 64, 2))
        give(b, b.layer("other"), normal(1e6, 64, 1))
        check_silent(UnevenFeatures, b.trace)

    def test_the_scale_differs_between_layers_and_not_between_features(self):
        b, _ = fed(normal(1.0, 64, 2))
        give(b, b.layer("other"), normal(1e6, 64, 2))
        check_silent(UnevenFeatures, b.trace)


class TestFires:
    def test_above_the_threshold(self):
        b, layer = fed(uniform(1.0, 1.01 * MAX_RATIO))
        assert check_fires(UnevenFeatures, b.trace, at=layer).measured == pytest.approx(1.01 * MAX_RATIO)

    def test_units_of_measurement(self):
        b, layer = fed(uniform(0.5, 8.0, 0.001))
        finding = check_fires(
            UnevenFeatures,
            b.trace,
            at=layer,
            message="feature 1 of the input of fc1 (linear) has standard deviation 8, while feature 2 stays within "
            "0.002: their scales are 8,000 times apart",
        )
        assert [(e.name, e.unit) for e in finding.evidence][-1] == ("features that vary", "of 3")

    def test_a_sparse_feature_of_large_numbers(self):
        x = np.concatenate([uniform(0.1), np.where(np.arange(64) % 8, 0.0, 5000.0)[:, None]], axis=1)
        b, layer = fed(x)
        check_fires(UnevenFeatures, b.trace, at=layer)


def test_needs_several_features():
    check_lacks(UnevenFeatures, fed(normal(1.0, 64, 1))[0].trace, "float data of several features that a layer takes")
