import pytest

from unstuck.findings import Severity
from unstuck.rules.norm.singleton_norm import SingletonNorm
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def network(op="group_norm", size=1.0):
    b = TraceBuilder()
    norm = b.site(Kind.NORM, op, "norm")
    for step in b.steps:
        b.scalar(norm, "group_size", size(step) if callable(size) else size, [step])
    return b, norm


@pytest.mark.parametrize("size", [2.0, 64.0, lambda step: 1.0 if step == 3 else 16.0])
def test_silent(size):
    check_silent(SingletonNorm, network(size=size)[0].trace)


@pytest.mark.parametrize(
    ("op", "leaves"),
    [
        ("group_norm", "makes it zero whatever it is"),
        ("layer_norm", "makes it zero whatever it is"),
        ("rms_norm", "leaves nothing but its sign"),
    ],
)
def test_fires(op, leaves):
    b, norm = network(op)
    message = f"norm ({op}) normalises each value by itself, which {leaves}"
    finding = check_fires(SingletonNorm, b.trace, at=norm, message=message, severity=Severity.ERROR)
    assert (finding.measured, finding.threshold, finding.unit) == (1.0, 2.0, "values")


def test_lacking():
    b = TraceBuilder()
    check_lacks(SingletonNorm, b.trace, "a normalisation layer")
    b.site(Kind.NORM, "batch_norm")
    check_lacks(SingletonNorm, b.trace, "a layer, group, instance or RMS normalisation")
