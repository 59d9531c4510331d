import pytest

from unstuck.findings import Severity
from unstuck.rules.ranks.unsynchronised_batchnorm import MIN_SAMPLES, UnsynchronisedBatchnorm
from unstuck.rules.together import LACKING
from unstuck.trace import Kind

from ..helpers import check_fires, check_lacks, check_silent
from .several import alone, merged


def run(samples=4.0, training=1.0, size=2, **spread):
    b, _ = merged(size=size, **spread)
    norm = b.site(Kind.NORM, "batch_norm", "bn")
    for step in b.steps:
        b.scalar(norm, "samples", samples(step) if callable(samples) else samples, [step])
    b.scalar(norm, "training", training, b.steps)
    return b, norm


class TestSilent:
    @pytest.mark.parametrize("samples", [MIN_SAMPLES, 32.0])
    def test_enough_samples(self, samples):
        check_silent(UnsynchronisedBatchnorm, run(samples)[0].trace)

    def test_a_small_last_batch(self):
        check_silent(UnsynchronisedBatchnorm, run(lambda step: 2.0 if step % 5 == 4 else 32.0)[0].trace)

    def test_running_statistics(self):
        check_silent(UnsynchronisedBatchnorm, run(training=0.0)[0].trace)

    def test_networks_of_their_own(self):
        check_silent(UnsynchronisedBatchnorm, run(gradients_equal=0.0)[0].trace)


class TestFires:
    @pytest.mark.parametrize("spread", [{}, {"gradients_equal": 0.0, "data_parallel": 1.0}])
    def test_small_batches(self, spread):
        b, norm = run(7.0, size=4, **spread)
        message = (
            "bn (batch_norm) takes mean and variance from the 7 samples of its own process, not from the 28 of all 4"
        )
        finding = check_fires(UnsynchronisedBatchnorm, b.trace, at=norm, message=message, severity=Severity.WARNING)
        assert (finding.measured, finding.threshold, finding.evidence[0].value) == (7.0, 8.0, 28.0)


class TestLacks:
    def test_one_process(self):
        b = alone()
        b.site(Kind.NORM, "batch_norm", "bn")
        check_lacks(UnsynchronisedBatchnorm, b.trace, LACKING)

    def test_synchronised(self):
        """It is no call of `batch_norm`, and leaves no such numbers."""
        b, _ = merged()
        b.site(Kind.NORM, "layer_norm", "ln")
        check_lacks(UnsynchronisedBatchnorm, b.trace, "batch normalisation")
