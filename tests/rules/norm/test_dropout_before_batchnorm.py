import pytest

from unstuck.rules.norm.dropout_before_batchnorm import DropoutBeforeBatchnorm
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def network(p=0.5, active=1.0, op="batch_norm", between=False, direct=True, training=1.0):
    b = TraceBuilder()
    fc = b.layer("fc")
    dropout = b.site(Kind.DROPOUT, "dropout", "drop", after=fc)
    before = b.layer("between", after=dropout) if between else dropout
    norm = b.site(Kind.NORM, op, "bn", **{"after" if direct else "far": [before, *([] if between else [fc])]})
    for site, numbers in ((dropout, {"p": p, "training": active}), (norm, {"training": training})):
        for name, value in numbers.items():
            b.scalar(site, name, value, b.steps)
    return b, norm


class TestSilent:
    @pytest.mark.parametrize("changes", [{"between": True}, {"direct": False}, {"active": 0.0}, {"training": 0.0}])
    def test_not_directly_or_not_in_training(self, changes):
        check_silent(DropoutBeforeBatchnorm, network(**changes)[0].trace)

    @pytest.mark.parametrize("op", ["layer_norm", "group_norm"])
    def test_norms_without_running_statistics(self, op):
        check_silent(DropoutBeforeBatchnorm, network(op=op)[0].trace)

    @pytest.mark.parametrize("p", [0.0, 0.09, 1.0])
    def test_weak_dropout_or_one_that_leaves_nothing(self, p):
        check_silent(DropoutBeforeBatchnorm, network(p)[0].trace)


class TestFires:
    def test_directly_before(self):
        b, norm = network()
        message = (
            "bn (batch_norm) takes the output of drop (dropout), which in training raises the variance "
            "2-fold (p = 0.5) and in evaluation does not"
        )
        finding = check_fires(DropoutBeforeBatchnorm, b.trace, at=norm, message=message)
        assert (finding.measured, finding.threshold) == (2.0, 1.1)

    def test_just_above_the_limit(self):
        b, norm = network(0.1)
        check_fires(DropoutBeforeBatchnorm, b.trace, at=norm)


def test_lacking():
    b = TraceBuilder()
    check_lacks(DropoutBeforeBatchnorm, b.trace, "a normalisation layer")
    b.site(Kind.NORM, "batch_norm")
    check_lacks(DropoutBeforeBatchnorm, b.trace, "dropout")
