import numpy as np
import pytest

from unstuck.rules.loss.clipped_output import MAX_BEYOND, MAX_ZEROS, ClippedOutput
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def regression(beyond, last="sigmoid", *, direct=True, odd=()):
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 5, 20))
    site = b.loss("mse_loss", baseline=1.0, **{"after" if direct else "far": b.activation(last, after=layer)})
    b.scalar(site, "targets_beyond", beyond, b.steps)
    b.scalar(site, "targets_beyond", 1.0, odd)
    return b, site


def logits(last, zeros=0.0, loss="cross_entropy", *, direct=True):
    """Logits of shape (100, 10) out of `last` (None: a layer), of which a share is zero."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 10, 20))
    source = layer if last is None else b.activation(last, after=layer)
    site = b.loss(loss, baseline=2.3, **{"after" if direct else "far": source})
    x = np.abs(normal(1.0, 100, 10)) + 1e-3
    x.ravel()[: round(zeros * x.size)] = 0.0
    b.record(site, Role.INPUT, x)
    return b, site


class TestSilent:
    def test_targets_within_the_range(self):
        check_silent(ClippedOutput, regression(0.0)[0].trace)

    def test_one_odd_step(self):
        check_silent(ClippedOutput, regression(0.0, odd=[4])[0].trace)

    def test_an_output_that_is_scaled(self):
        check_silent(ClippedOutput, regression(0.6, "tanh", direct=False)[0].trace)

    def test_logits_of_a_layer_that_starts_at_zero(self):
        check_silent(ClippedOutput, logits(None, 1.0)[0].trace)

    def test_scores_that_are_scaled_or_averaged(self):
        check_silent(ClippedOutput, logits("tanh", direct=False)[0].trace)
        check_silent(ClippedOutput, logits("relu", 0.5, direct=False)[0].trace)

    @pytest.mark.parametrize("loss", ["binary_cross_entropy", "nll_loss"])
    def test_losses_that_take_no_logits(self, loss):
        check_silent(ClippedOutput, logits("sigmoid", loss=loss)[0].trace)

    def test_a_second_sigmoid_is_another_fault(self):
        check_silent(ClippedOutput, logits("sigmoid", loss="binary_cross_entropy_with_logits")[0].trace)

    def test_a_smooth_function_before_the_loss(self):
        check_silent(ClippedOutput, logits("gelu")[0].trace)


class TestFires:
    def test_standardised_targets(self):
        b, site = regression(0.62)
        finding = check_fires(
            ClippedOutput,
            b.trace,
            at=site,
            message="62% of the targets lie outside the range of the sigmoid that makes the output",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (62.0, 5.0, (0, 9))

    def test_logits_of_a_relu(self):
        b, site = logits("relu", 0.5)
        message = "cross_entropy takes logits, but they come out of a relu: none is negative and 50% are zero"
        check_fires(ClippedOutput, b.trace, at=site, message=message)

    @pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy_with_logits"])
    def test_logits_of_a_tanh(self, loss):
        b, site = logits("tanh", loss=loss)
        message = f"{loss} takes logits of any size, but they come straight out of a tanh"
        check_fires(ClippedOutput, b.trace, at=site, message=message)


class TestThresholds:
    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_targets(self, side):
        b, site = regression(side * MAX_BEYOND)
        check_fires(ClippedOutput, b.trace, at=site) if side > 1 else check_silent(ClippedOutput, b.trace)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_zeros(self, side):
        b, site = logits("relu", side * MAX_ZEROS)
        check_fires(ClippedOutput, b.trace, at=site) if side > 1 else check_silent(ClippedOutput, b.trace)


def test_needs_a_loss_call():
    check_lacks(ClippedOutput, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")


def test_a_dropout_in_between():
    b, site = regression(0.62)
    dropout = b.site(Kind.DROPOUT, "dropout")
    b.edge(dropout, site)
    check_fires(ClippedOutput, b.trace, at=site)
