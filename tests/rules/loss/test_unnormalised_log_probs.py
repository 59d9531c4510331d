import math

import pytest

from unstuck.findings import Severity
from unstuck.rules.loss.unnormalised_log_probs import MAX_OFF, UnnormalisedLogProbs
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(off, mass=1.0, *, normaliser=False, odd=()):
    """A layer and an nll_loss whose rows are off by a share, at all steps but the `odd` ones."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 5, 20))
    site = b.loss("nll_loss", baseline=1.6, after=layer)
    if normaliser:
        b.edge(layer, site, direct=False)
    b.scalar(site, "mass_off", off, b.steps)
    b.scalar(site, "mass", mass, b.steps)
    b.scalar(site, "mass_off", 1 - off, odd)
    return b, site


class TestSilent:
    def test_log_softmax(self):
        check_silent(UnnormalisedLogProbs, network(0.0)[0].trace)

    def test_other_losses(self):
        b = TraceBuilder()
        b.loss("cross_entropy", baseline=1.6, after=b.site(Kind.SOFTMAX, "log_softmax"))
        check_silent(UnnormalisedLogProbs, b.trace)

    def test_one_odd_step(self):
        check_silent(UnnormalisedLogProbs, network(0.0, odd=[3])[0].trace)

    def test_a_normaliser_that_the_program_adds(self):
        check_silent(UnnormalisedLogProbs, network(1.0, 6.0, normaliser=True)[0].trace)


class TestFires:
    def test_raw_scores(self):
        b, site = network(1.0, 6.25)
        finding = check_fires(
            UnnormalisedLogProbs,
            b.trace,
            at=site,
            message="nll_loss expects log-probabilities, but in 100% of the rows they do not sum to 1 "
            "(the median row to 6.25)",
            severity=Severity.ERROR,
        )
        assert (finding.measured, finding.threshold, finding.steps) == (100.0, 10.0, (0, 9))

    def test_classes_struck_out_after_the_softmax(self):
        b, site = network(0.9, 0.5)
        check_fires(UnnormalisedLogProbs, b.trace, at=site, severity=Severity.WARNING)

    def test_the_softmax_that_feeds_it_with_something_in_between(self):
        b, site = network(0.9, 0.5)
        assert check_fires(UnnormalisedLogProbs, b.trace, at=site, severity=Severity.WARNING).related == ()
        b.edge(b.site(Kind.SOFTMAX, "log_softmax", "head"), site, direct=False)
        finding = check_fires(UnnormalisedLogProbs, b.trace, at=site, severity=Severity.WARNING)
        assert [place.site for place in finding.related] == ["head (log_softmax)"]

    def test_a_sum_too_large_for_a_float(self):
        b, site = network(1.0, math.inf)
        check_fires(UnnormalisedLogProbs, b.trace, at=site, severity=Severity.ERROR)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold(side):
    b, site = network(side * MAX_OFF, 0.9)
    check_fires(UnnormalisedLogProbs, b.trace, at=site) if side > 1 else check_silent(UnnormalisedLogProbs, b.trace)


def test_needs_a_loss_call():
    what = "a call of a loss in torch.nn.functional with a known baseline"
    check_lacks(UnnormalisedLogProbs, TraceBuilder().trace, what)
