"""The table of functions against numeric differentiation and against torch's own losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from unstuck.capture.functions import ACTIVATION_OPS, RESPONSIVE_SHARE, UNINFORMATIVE, activation, baseline, terms

CALLS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "log_sigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "erf": torch.erf,
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "rrelu": lambda x: F.rrelu(x, training=False),
    "prelu": lambda x: F.prelu(x, torch.tensor(0.25, dtype=x.dtype)),
}
EXTRA_ARGUMENTS = {"threshold": (0.0, 0.0), "clamp_min": (0.0,)}
REACH = 12.0


def responsive_bounds(function):
    """The outermost inputs in [-12, 12] where |f'| >= 6 % of its maximum, by central differences on a fine grid."""
    x = torch.linspace(-REACH, REACH, 240_001, dtype=torch.float64)
    h = 1e-6
    slope = ((function(x + h) - function(x - h)) / (2 * h)).abs()
    slope[slope > 1e3] = 0.0  # a jump, not a slope
    responsive = x[slope >= RESPONSIVE_SHARE * slope.max()]
    return responsive.min().item(), responsive.max().item()


def test_every_activation_is_compared():
    assert set(CALLS) == set(ACTIVATION_OPS)


@pytest.mark.parametrize("op", sorted(CALLS))
def test_interval_agrees_with_numeric_differentiation(op):
    known = activation(op, (None, *EXTRA_ARGUMENTS.get(op, ())), {})
    lower, upper = responsive_bounds(CALLS[op])
    assert max(known.interval[0], -REACH) == pytest.approx(lower, abs=2e-3)
    assert min(known.interval[1], REACH) == pytest.approx(upper, abs=2e-3)


@pytest.mark.parametrize(
    ("op", "arguments", "function"),
    [
        ("elu", {"alpha": 2.0}, lambda x: F.elu(x, 2.0)),
        ("elu", {"alpha": 0.5}, lambda x: F.elu(x, 0.5)),
        ("celu", {"alpha": 2.0}, lambda x: F.celu(x, 2.0)),
        ("leaky_relu", {"negative_slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
        ("leaky_relu", {"negative_slope": 0.05}, lambda x: F.leaky_relu(x, 0.05)),
    ],
)
def test_interval_follows_the_arguments(op, arguments, function):
    lower, _ = responsive_bounds(function)
    assert max(activation(op, (None,), arguments).interval[0], -REACH) == pytest.approx(lower, abs=2e-3)
    assert activation(op, (None, *arguments.values()), {}) == activation(op, (None,), arguments)


@pytest.mark.parametrize("op", ["tanh", "relu", "sigmoid", "selu"])
def test_gain_is_torchs(op):
    assert activation(op, (None,), {}).gain == pytest.approx(torch.nn.init.calculate_gain(op))


@pytest.mark.parametrize("op", ["gelu", "silu", "mish", "elu", "hardswish", "softsign", "erf", "hardtanh", "softplus"])
def test_gain_keeps_the_second_moment(op):
    z = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert activation(op, (None,), {}).gain == pytest.approx(1 / CALLS[op](z).pow(2).mean().sqrt().item(), rel=5e-3)


def test_a_threshold_elsewhere_is_no_activation():
    assert activation("threshold", (None, 0.5, 0.0), {}) is None
    assert activation("clamp_min", (None,), {"min": -1.0}) is None
    assert activation("exp", (None,), {}) is None


LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 1, 2, 3, 4, 0])


class TestBaseline:
    def test_cross_entropy_is_ln_classes(self):
        assert baseline("cross_entropy", F.cross_entropy, (LOGITS, CLASSES), {}) == pytest.approx(math.log(5))

    def test_cross_entropy_respects_its_arguments(self):
        sums = {"reduction": "sum", "ignore_index": 0}
        assert baseline("cross_entropy", F.cross_entropy, (LOGITS, CLASSES), sums) == pytest.approx(4 * math.log(5))
        smooth = {"label_smoothing": 0.1, "weight": torch.tensor([1.0, 2, 3, 4, 5])}
        expected = F.cross_entropy(torch.zeros_like(LOGITS), CLASSES, **smooth).item()
        assert baseline("cross_entropy", F.cross_entropy, (LOGITS, CLASSES), smooth) == pytest.approx(expected)

    def test_nll_is_ln_classes(self):
        assert baseline("nll_loss", F.nll_loss, (LOGITS.log_softmax(1), CLASSES), {}) == pytest.approx(math.log(5))

    def test_binary(self):
        target = torch.tensor([0.0, 1, 1, 0])
        bce = baseline("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, (target, target), {})
        assert bce == pytest.approx(math.log(2))
        assert baseline("binary_cross_entropy", F.binary_cross_entropy, (target, target), {}) == pytest.approx(
            math.log(2)
        )

    def test_mse_is_the_targets_variance(self):
        target = torch.tensor([1.0, 3, 5, 7])
        assert baseline("mse_loss", F.mse_loss, (torch.zeros(4), target), {}) == pytest.approx(5.0)

    def test_by_keyword(self):
        arguments = {"input": LOGITS, "target": CLASSES}
        assert baseline("cross_entropy", F.cross_entropy, (), arguments) == pytest.approx(math.log(5))

    def test_unknown_or_empty(self):
        assert baseline("ctc_loss", F.ctc_loss, (LOGITS, CLASSES), {}) is None
        assert baseline("mse_loss", F.mse_loss, (torch.zeros(0), torch.zeros(0)), {}) is None
        assert baseline("mse_loss", F.mse_loss, (torch.zeros(3), 1.0), {}) is None

    def test_random_numbers_and_inputs_are_left_alone(self):
        before, copy = torch.get_rng_state(), LOGITS.clone()
        for op in ("cross_entropy", "multi_margin_loss"):
            baseline(op, getattr(F, op), (LOGITS, CLASSES), {})
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(LOGITS, copy)

    def test_every_known_loss_is_torchs(self):
        assert all(hasattr(F, op) for op in UNINFORMATIVE)


class TestTerms:
    def test_a_mean_has_one(self):
        assert terms("cross_entropy", (LOGITS, CLASSES), {}) == 1
        assert terms("cross_entropy", (LOGITS, CLASSES), {"reduction": "mean"}) == 1

    def test_a_sum_counts_what_is_not_ignored(self):
        assert terms("cross_entropy", (LOGITS, CLASSES), {"reduction": "sum"}) == 6
        assert terms("cross_entropy", (LOGITS, CLASSES), {"reduction": "sum", "ignore_index": 0}) == 4

    def test_a_sum_over_elements(self):
        assert terms("mse_loss", (LOGITS, LOGITS), {"reduction": "sum"}) == 30
        assert terms("cross_entropy", (LOGITS, LOGITS.softmax(1)), {"reduction": "sum"}) == 6
