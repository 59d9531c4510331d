import pytest

from unstuck.rules.loss.double_sigmoid import DoubleSigmoid

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

LOSS = "binary_cross_entropy_with_logits"


def network(op="sigmoid", loss=LOSS, *, direct=True):
    """A layer, an activation function and a loss."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 1, 20))
    site = b.activation(op, after=layer, pre=normal(1.0, 32, 1))
    return b, b.loss(loss, baseline=0.69, **{"after" if direct else "far": site})


class TestSilent:
    def test_logits(self):
        b = TraceBuilder()
        b.loss(LOSS, baseline=0.69, after=b.layer("fc", weight=normal(0.1, 1, 20)))
        check_silent(DoubleSigmoid, b.trace)

    @pytest.mark.parametrize("op", ["tanh", "relu", "gelu"])
    def test_other_functions(self, op):
        check_silent(DoubleSigmoid, network(op)[0].trace)

    @pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse_loss", "cross_entropy"])
    def test_losses_without_a_sigmoid_of_their_own(self, loss):
        check_silent(DoubleSigmoid, network(loss=loss)[0].trace)

    def test_a_gate_further_up(self):
        check_silent(DoubleSigmoid, network(direct=False)[0].trace)


class TestFires:
    def test_probabilities(self):
        b, loss = network()
        finding = check_fires(
            DoubleSigmoid,
            b.trace,
            at=loss,
            message=f"{LOSS} applies a sigmoid to its input, which comes out of the sigmoid at train.py:3 already",
        )
        assert (finding.measured, finding.threshold, finding.unit) == (1.0, 0.0, "sigmoids")
        assert [(place.site, str(place.location)) for place in finding.related] == [("sigmoid", "train.py:3")]


def test_needs_a_loss_call():
    check_lacks(DoubleSigmoid, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")
