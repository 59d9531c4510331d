import pytest

from unstuck.rules.norm.collapsed_units import MAX_COLLAPSED, CollapsedUnits
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def network(share=0.5, training=1.0, eps=1e-4, std=2e-3):
    b = TraceBuilder()
    norm = b.site(Kind.NORM, "batch_norm", "bn")
    for name, value in {"training": training, "eps": eps, "unit_std": std}.items():
        b.scalar(norm, name, value, b.steps)
    for step in b.steps:
        b.scalar(norm, "collapsed_units", share(step) if callable(share) else share, [step])
    return b, norm


@pytest.mark.parametrize("share", [0.0, MAX_COLLAPSED - 0.01, lambda step: float(step == 2)])
def test_silent(share):
    check_silent(CollapsedUnits, network(share)[0].trace)


def test_silent_with_running_statistics():
    check_silent(CollapsedUnits, network(training=0.0)[0].trace)


def test_fires():
    b, norm = network()
    message = (
        "50% of the units that bn (batch_norm) is given vary by less than its eps of 0.0001 allows for "
        "(median standard deviation 0.002, √eps = 0.01)"
    )
    finding = check_fires(CollapsedUnits, b.trace, at=norm, message=message)
    assert (finding.measured, finding.threshold) == (0.5, MAX_COLLAPSED)


@pytest.mark.parametrize(("eps", "std", "fires"), [(1e-4, 5.1e-3, False), (1e-4, 4.9e-3, True), (0.8, 0.64, True)])
def test_a_scale_that_is_little_below_a_usual_eps(eps, std, fires):
    b, norm = network(eps=eps, std=std)
    check_fires(CollapsedUnits, b.trace, at=norm) if fires else check_silent(CollapsedUnits, b.trace)


def test_fires_at_the_limit():
    b, norm = network(MAX_COLLAPSED)
    check_fires(CollapsedUnits, b.trace, at=norm)


def test_lacking():
    b = TraceBuilder()
    check_lacks(CollapsedUnits, b.trace, "a normalisation layer")
    b.site(Kind.NORM, "layer_norm")
    check_lacks(CollapsedUnits, b.trace, "batch normalisation")
