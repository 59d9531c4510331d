import pytest

from unstuck.rules.loss.double_softmax import DoubleSoftmax
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(softmax="softmax", loss="cross_entropy", *, direct=True):
    """A layer, a softmax and a loss; without `direct` something stands between the softmax and the loss."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 5, 20))
    site = b.site(Kind.SOFTMAX, softmax, after=layer)
    b.scalar(site, "classes", 5, b.steps)
    end = b.loss(loss, baseline=1.6, **{"after" if direct else "far": site})
    return b, end


class TestSilent:
    def test_logits(self):
        b = TraceBuilder()
        b.loss(baseline=1.6, after=b.layer("fc", weight=normal(0.1, 5, 20)))
        check_silent(DoubleSoftmax, b.trace)

    def test_log_softmax_which_changes_nothing(self):
        check_silent(DoubleSoftmax, network("log_softmax")[0].trace)

    @pytest.mark.parametrize("loss", ["nll_loss", "kl_div", "mse_loss", "binary_cross_entropy"])
    def test_losses_without_a_softmax_of_their_own(self, loss):
        check_silent(DoubleSoftmax, network(loss=loss)[0].trace)

    def test_a_softmax_that_goes_through_other_operations_first(self):
        check_silent(DoubleSoftmax, network(direct=False)[0].trace)

    def test_attention_before_the_last_layer(self):
        b = TraceBuilder()
        attention = b.site(Kind.SOFTMAX, "softmax", after=b.layer("qk", weight=normal(0.1, 5, 20)))
        b.loss(baseline=1.6, after=b.layer("fc", weight=normal(0.1, 5, 20), far=attention))
        check_silent(DoubleSoftmax, b.trace)


class TestFires:
    def test_probabilities(self):
        b, loss = network()
        finding = check_fires(
            DoubleSoftmax,
            b.trace,
            at=loss,
            message="cross_entropy applies a softmax to its input, "
            "which comes out of the softmax at train.py:3 already",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (1.0, 0.0, (0, 9))
        assert [(e.name, e.value) for e in finding.evidence] == [("classes", 5)]
        assert [(place.site, str(place.location)) for place in finding.related] == [("softmax", "train.py:3")]


def test_needs_a_loss_call():
    check_lacks(DoubleSoftmax, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")
