import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.data.unscaled_input import MAX_MEAN, MAX_STD, MIN_NORM, MIN_STD, UnscaledInput
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal
from .given import fed, give

RANDOM = np.random.default_rng(2)


def data(std, mean=0.0, shape=(64, 8)):
    return normal(std, *shape, mean=mean)


class TestSilent:
    def test_standardised(self):
        check_silent(UnscaledInput, fed(data(1.0))[0].trace)

    def test_pixels_from_0_to_1(self):
        check_silent(UnscaledInput, fed(RANDOM.random((32, 100)) * (RANDOM.random((32, 100)) < 0.4))[0].trace)

    def test_one_hot(self):
        check_silent(UnscaledInput, fed(np.eye(1000)[:64])[0].trace)

    def test_sparse_words(self):
        x = np.where(RANDOM.random((64, 2000)) < 0.01, 0.2, 0.0)
        check_silent(UnscaledInput, fed(x)[0].trace)

    def test_rows_normalised_to_length_1(self):
        x = RANDOM.standard_normal((64, 1024))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        assert x.std() < MIN_STD
        check_silent(UnscaledInput, fed(x, fan_in=1024)[0].trace)

    @pytest.mark.parametrize("value", [0.0, 500.0])
    def test_a_constant_state(self, value):
        check_silent(UnscaledInput, fed(np.full((64, 8), value))[0].trace)

    def test_one_odd_batch(self):
        check_silent(UnscaledInput, fed(lambda step: data(200.0 if step == 3 else 1.0))[0].trace)

    def test_a_layer_that_also_takes_what_the_network_made(self):
        b, layer = fed(data(200.0))
        b.edge(b.layer("fc0"), layer, direct=False)
        b.layer("other")
        give(b, b.layer("first"), data(1.0))
        check_silent(UnscaledInput, b.trace)

    @pytest.mark.parametrize(("std", "mean"), [(MAX_STD * 0.99, 0.0), (1.0, MAX_MEAN * 0.99), (MIN_STD * 1.01, 0.0)])
    def test_near_the_thresholds(self, std, mean):
        check_silent(UnscaledInput, fed(data(std, mean))[0].trace)


class TestFires:
    @pytest.mark.parametrize(
        ("std", "mean", "measured"),
        [
            (MAX_STD * 1.01, 0.0, MAX_STD * 1.01),
            (1.0, -MAX_MEAN * 1.01, MAX_MEAN * 1.01),
            (MIN_STD * 0.99, 0.0, MIN_STD * 0.99),
        ],
    )
    def test_near_the_thresholds(self, std, mean, measured):
        b, layer = fed(data(std, mean))
        assert check_fires(UnscaledInput, b.trace, at=layer).measured == pytest.approx(measured)

    def test_pixels_from_0_to_255(self):
        b, layer = fed(data(70.0, 90.0), op="conv2d")
        finding = check_fires(
            UnscaledInput,
            b.trace,
            at=layer,
            severity=Severity.WARNING,
            message="the input of fc1 (conv2d) has mean 90 and standard deviation 70 (medians of steps 0 to 9), "
            "where layers are initialised for 0 and 1",
        )
        assert [e.name for e in finding.evidence] == ["mean", "standard deviation", "smallest", "largest"]

    def test_small_returns_into_a_recurrent_layer(self):
        b, layer = fed(data(0.008, shape=(64, 30, 1)), kind=Kind.RECURRENT, op="gru")
        check_fires(UnscaledInput, b.trace, at=layer)

    def test_for_information_before_a_norm(self):
        b = TraceBuilder()
        layer = b.layer("conv1", op="conv2d")
        give(b, layer, data(70.0))
        b.site(Kind.NORM, "batch_norm", after=layer)
        check_fires(UnscaledInput, b.trace, at=layer, severity=Severity.INFO)

    def test_values_that_are_not_finite_are_left_out(self):
        x = data(70.0)
        x[0, 0] = np.nan
        b, layer = fed(lambda step: x if step else np.full((64, 8), np.nan))
        assert check_fires(UnscaledInput, b.trace, at=layer).steps == (1, 9)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold_of_a_whole_row(side):
    """Small entries fire as long as a row of them is small too."""
    b, layer = fed(data(0.02), fan_in=round((side * MIN_NORM / 0.02) ** 2))
    check_fires(UnscaledInput, b.trace, at=layer) if side < 1 else check_silent(UnscaledInput, b.trace)


def test_needs_float_data():
    b = TraceBuilder()
    b.record(b.layer(), Role.OUTPUT, data(1.0))
    check_lacks(UnscaledInput, b.trace, "float data that a layer takes from outside the network")
    check_lacks(UnscaledInput, TraceBuilder([]).trace, "a backward pass")
