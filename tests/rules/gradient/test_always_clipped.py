import pytest

from unstuck.findings import Severity
from unstuck.rules.gradient.always_clipped import MAX_SHRINKAGE, MIN_CALLS, MIN_LENGTH, AlwaysClipped

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .clipping import STEPS, clipped


class TestSilent:
    def test_nothing_clipped(self):
        check_silent(AlwaysClipped, clipped(0.5)[0].trace)

    def test_large_outliers(self):
        check_silent(AlwaysClipped, clipped(lambda step: 1000.0 if step % 2 else 0.5)[0].trace)

    def test_always_but_mildly(self):
        check_silent(AlwaysClipped, clipped(3.0)[0].trace)


class TestFires:
    @pytest.mark.parametrize(
        ("optimizer", "severity"), [(None, Severity.WARNING), ("SGD", Severity.WARNING), ("AdamW", Severity.INFO)]
    )
    def test_always(self, optimizer, severity):
        b, site = clipped(50.0, optimizer=optimizer)
        finding = check_fires(
            AlwaysClipped,
            b.trace,
            at=site,
            message="100 % of the sampled steps are clipped, to a norm of 1 from one of 50 (medians): 50-fold",
            severity=severity,
        )
        assert finding.measured == pytest.approx(50)


def test_threshold():
    check_silent(AlwaysClipped, clipped(MAX_SHRINKAGE * 0.99)[0].trace)
    b, site = clipped(MAX_SHRINKAGE * 1.01)
    check_fires(AlwaysClipped, b.trace, at=site)


@pytest.mark.parametrize(("in_bounds", "fires"), [(10, False), (9, True)])
def test_threshold_of_the_share(in_bounds, fires):
    """Of 200 calls, 190 or 191 clip: 95 or 95.5 %."""
    b, site = clipped(lambda step: 0.5 if step < in_bounds else 100.0, steps=range(200))
    check_fires(AlwaysClipped, b.trace, at=site) if fires else check_silent(AlwaysClipped, b.trace)


def test_needs_clipping_in_a_long_run():
    check_lacks(AlwaysClipped, TraceBuilder().trace, "a call of torch.nn.utils.clip_grad_norm_")
    what = f"clipping at {MIN_CALLS} sampled steps of a run of {MIN_LENGTH}"
    check_lacks(AlwaysClipped, clipped(50.0, steps=STEPS[:-1])[0].trace, what)
    check_lacks(AlwaysClipped, clipped(50.0, steps=[0, 1, 99])[0].trace, what)
