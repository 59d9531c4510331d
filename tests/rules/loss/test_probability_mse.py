import pytest

from unstuck.rules.loss.probability_mse import TOLERANCE, ProbabilityMse
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

ONE_HOT = (0.0, 1.0, 0.05, (0.05 * 0.95) ** 0.5)


def network(targets=ONE_HOT, source="softmax", op="mse_loss", *, direct=True, odd=(), data=(), steps=range(10)):
    """A loss fed by `source`; `targets` are their least, largest, mean and std, at `odd` steps those of pixels."""
    b = TraceBuilder(steps)
    layer = b.layer("fc", weight=normal(0.1, 20, 12))
    if source == "softmax":
        layer = b.site(Kind.SOFTMAX, source, after=layer)
    elif source:
        layer = b.activation(source, after=layer)
    site = b.loss(op, baseline=0.05, **{"after" if direct else "far": layer})
    for step in b.steps:
        numbers = (0.0, 1.0, 0.3, 0.2) if step in odd else targets
        for name, value in zip(("min", "max", "mean", "std"), numbers, strict=True):
            b.scalar(site, f"target_{name}", value, [step])
        b.scalar(site, "target_is_data", float(step in data), [step])
    return b, site


class TestSilent:
    @pytest.mark.parametrize("source", ["tanh", None])
    def test_other_outputs(self, source):
        check_silent(ProbabilityMse, network(source=source)[0].trace)

    @pytest.mark.parametrize("op", ["binary_cross_entropy", "kl_div", "l1_loss"])
    def test_other_losses(self, op):
        check_silent(ProbabilityMse, network(op=op)[0].trace)

    @pytest.mark.parametrize(
        "targets",
        [
            (0.0, 1.0, 0.3, 0.2),  # pixels
            (0.02, 0.9, 0.05, 0.1),  # another network's probabilities
            (1.0, 1.0, 1.0, 0.0),  # a discriminator's
            (0.0, 0.0, 0.0, 0.0),
            (-1.0, 1.0, 0.0, 1.0),
        ],
    )
    def test_other_targets(self, targets):
        check_silent(ProbabilityMse, network(targets)[0].trace)

    def test_an_autoencoder_of_black_and_white_pictures(self):
        check_silent(ProbabilityMse, network(source="sigmoid", data=range(10))[0].trace)

    def test_probabilities_that_are_mixed_before_the_loss(self):
        check_silent(ProbabilityMse, network(direct=False)[0].trace)


class TestFires:
    def test_one_hot(self):
        b, site = network()
        finding = check_fires(
            ProbabilityMse,
            b.trace,
            at=site,
            message="mse_loss fits the output of a softmax to zeros and ones (5% ones)",
        )
        assert (finding.measured, finding.steps, finding.evidence[0].value) == (100.0, (0, 9), pytest.approx(5.0))

    @pytest.mark.parametrize("op", ["mse_loss", "huber_loss", "smooth_l1_loss"])
    def test_sigmoid(self, op):
        b, site = network((0.0, 1.0, 0.3, 0.21**0.5), "sigmoid", op)
        check_fires(ProbabilityMse, b.trace, at=site)

    @pytest.mark.parametrize(("odd", "fires"), [(100, False), (99, True)])
    def test_most_of_the_steps(self, odd, fires):
        """101 of 200, not 100."""
        b, site = network(odd=range(odd), steps=range(200))
        check_fires(ProbabilityMse, b.trace, at=site) if fires else check_silent(ProbabilityMse, b.trace)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_how_near_to_zeros_and_ones(side):
    b, site = network((0.0, 1.0, 0.05, (0.05 * 0.95 - side * TOLERANCE) ** 0.5))
    check_fires(ProbabilityMse, b.trace, at=site) if side < 1 else check_silent(ProbabilityMse, b.trace)


def test_needs_a_loss_call():
    check_lacks(ProbabilityMse, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")
