import pytest

from unstuck.rules.activation.hidden_softmax import MIN_UNITS, HiddenSoftmax
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

W, BIAS = normal(0.1, 20, 20), normal(0.1, 20)


def network(op="softmax", *, classes=20, bias=BIAS, direct=True):
    b = TraceBuilder()
    first = b.layer("first", weight=W)
    softmax = b.site(Kind.SOFTMAX, op, after=first)
    b.scalar(softmax, "classes", classes)
    second = b.layer("second", weight=W, bias=bias, **{"after" if direct else "far": softmax})
    b.loss(after=second)
    return b, first, softmax, second


class TestSilent:
    def test_attention_whose_softmax_meets_values_first(self):
        check_silent(HiddenSoftmax, network(direct=False)[0].trace)

    def test_a_mixture_of_rows(self):
        check_silent(HiddenSoftmax, network(bias=None)[0].trace)

    def test_log_softmax(self):
        check_silent(HiddenSoftmax, network("log_softmax")[0].trace)

    def test_a_few_probabilities(self):
        check_silent(HiddenSoftmax, network(classes=MIN_UNITS - 1)[0].trace)

    def test_a_softmax_that_only_the_loss_takes(self):
        b = TraceBuilder()
        softmax = b.site(Kind.SOFTMAX, "softmax", after=b.layer(weight=W, bias=BIAS))
        b.scalar(softmax, "classes", 20)
        b.loss("nll_loss", far=softmax)
        check_silent(HiddenSoftmax, b.trace)

    @pytest.mark.parametrize("judged", ["logits", "probabilities"])
    def test_predictions_that_are_judged_and_used(self, judged):
        b, first, softmax, _ = network()
        b.loss(after=first if judged == "logits" else softmax)
        check_silent(HiddenSoftmax, b.trace)

    def test_a_discriminator_of_real_and_generated_rows(self):
        b, _, _, second = network()
        b.record(second, Role.INPUT, normal(1.0, 64, 20))
        check_silent(HiddenSoftmax, b.trace)

    def test_data_that_goes_through_a_softmax(self):
        b = TraceBuilder()
        softmax = b.site(Kind.SOFTMAX, "softmax")
        b.scalar(softmax, "classes", 20)
        b.loss(after=b.layer(weight=W, bias=BIAS, after=softmax))
        check_silent(HiddenSoftmax, b.trace)


class TestFires:
    def test_between_two_layers(self):
        b, _, softmax, _ = network()
        finding = check_fires(
            HiddenSoftmax,
            b.trace,
            at=softmax,
            message="softmax over 20 units stands between weight layers; second (linear) takes it as is",
        )
        assert (finding.measured, finding.threshold) == (1.0, 0.0)

    def test_a_recurrence_that_starts_with_zeros(self):
        b, _, softmax, second = network()
        b.record(second, Role.INPUT, 0 * normal(1.0, 64, 20))
        check_fires(HiddenSoftmax, b.trace, at=softmax)

    def test_those_of_one_line_count_once(self):
        b, first, softmax, second = network()
        other = b.site(Kind.SOFTMAX, "softmax", after=first)
        other.location = softmax.location
        b.edge(other, second)
        b.scalar(other, "classes", 20)
        check_fires(HiddenSoftmax, b.trace, at=softmax)


def test_threshold():
    b, _, softmax, _ = network(classes=MIN_UNITS)
    check_fires(HiddenSoftmax, b.trace, at=softmax)


def test_needs_weight_layers():
    lacks = "a weight layer (a linear map, matmul or convolution with a parameter)"
    check_lacks(HiddenSoftmax, TraceBuilder().trace, lacks)
