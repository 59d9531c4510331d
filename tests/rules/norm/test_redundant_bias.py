import pytest

from unstuck.findings import Severity
from unstuck.rules.norm.redundant_bias import MAX_GRADIENT_SHARE, MAX_REDUNDANT, RedundantBias
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(op="batch_norm", share=1e-7, bias=True, direct=True):
    """conv -> norm -> relu -> head; the bias's gradient is `share` of the weight's"""
    b = TraceBuilder()
    conv = b.layer("conv", op="conv2d", weight=normal(1, 64, 3, 3, 3), bias=normal(1, 64) if bias else None)
    norm = b.site(Kind.NORM, op, "bn", **{"after" if direct else "far": conv})
    relu = b.activation("relu", after=norm)
    b.loss(after=b.layer("head", weight=normal(1, 5, 64), bias=normal(1, 5), after=relu))
    if share is not None:
        for parameter, scale in zip(b.trace.parameters_of(conv), (1.0, share), strict=False):
            b.record(parameter, Role.GRADIENT, normal(scale, *parameter.shape))
    return b, conv


class TestSilent:
    def test_no_bias(self):
        check_silent(RedundantBias, network(bias=False)[0].trace)

    @pytest.mark.parametrize("op", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
    def test_other_norms(self, op):
        check_silent(RedundantBias, network(op)[0].trace)

    def test_something_between(self):
        check_silent(RedundantBias, network(direct=False)[0].trace)

    def test_output_used_elsewhere_too(self):
        b, conv = network()
        b.layer("skip", far=conv)
        check_silent(RedundantBias, b.trace)

    def test_frozen_statistics_let_the_bias_learn(self):
        check_silent(RedundantBias, network(share=3.7)[0].trace)

    def test_frozen_bias(self):
        b, conv = network()
        b.trace.parameters_of(conv)[1].requires_grad = False
        check_silent(RedundantBias, b.trace)


class TestFires:
    @pytest.mark.parametrize("share", [1e-7, None])
    def test_convolution_before_batch_norm(self, share):
        b, conv = network(share=share)
        finding = check_fires(
            RedundantBias,
            b.trace,
            at=conv,
            message="the 64 biases of conv (conv2d) feed only bn (batch_norm), which subtracts them again",
            severity=Severity.INFO,
        )
        assert (finding.measured, finding.threshold, finding.unit) == (64.0, MAX_REDUNDANT, "units")
        assert finding.fixes == ("fold-bias-into-norm",)
        assert [place.site for place in finding.related] == ["bn (batch_norm)"]
        assert len(finding.evidence) == (share is not None)


def test_threshold_of_the_gradient():
    check_silent(RedundantBias, network(share=MAX_GRADIENT_SHARE * 1.01)[0].trace)
    b, conv = network(share=MAX_GRADIENT_SHARE * 0.99)
    check_fires(RedundantBias, b.trace, at=conv)


def test_lacking():
    b = TraceBuilder()
    b.layer()
    check_lacks(RedundantBias, b.trace, "a normalisation layer")
