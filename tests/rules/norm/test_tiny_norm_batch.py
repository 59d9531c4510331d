import pytest

from unstuck.rules.norm.tiny_norm_batch import MIN_VALUES, TinyNormBatch
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def network(values=4.0, training=1.0, steps=range(10)):
    b = TraceBuilder(steps)
    norm = b.site(Kind.NORM, "batch_norm", "bn", after=b.layer("fc"))
    b.scalar(norm, "training", training, b.steps)
    for step in b.steps:
        b.scalar(norm, "values_per_unit", values(step) if callable(values) else values, [step])
    return b, norm


class TestSilent:
    @pytest.mark.parametrize("values", [MIN_VALUES, 32.0, 64 * 49.0])
    def test_enough_values(self, values):
        check_silent(TinyNormBatch, network(values)[0].trace)

    def test_a_small_last_batch(self):
        check_silent(TinyNormBatch, network(lambda step: 2.0 if step % 5 == 4 else 32.0)[0].trace)

    def test_running_statistics_only(self):
        check_silent(TinyNormBatch, network(training=0.0)[0].trace)

    def test_too_few_steps_in_train_mode(self):
        b, norm = network(training=0.0)
        b.scalar(norm, "training", 1.0, [0, 1])
        check_silent(TinyNormBatch, b.trace)


class TestFires:
    def test_batches_of_four(self):
        b, norm = network()
        b.scalar(norm, "mean_shift", 0.4, b.steps)
        message = "bn (batch_norm) takes mean and variance of each unit from 4 values; below 8 they are mostly noise"
        finding = check_fires(TinyNormBatch, b.trace, at=norm, message=message)
        assert (finding.measured, finding.threshold, finding.steps) == (4.0, 8.0, (0, 9))
        assert [(e.name, e.value) for e in finding.evidence] == [("batch mean from running mean", 0.4)]

    def test_just_below_the_limit(self):
        b, norm = network(MIN_VALUES - 1.0)
        check_fires(TinyNormBatch, b.trace, at=norm)

    def test_a_limit_of_ones_own(self):
        trace = network(16.0)[0].trace
        assert [f.threshold for f in TinyNormBatch({"min_values": 32}).detect(trace)] == [32]


def test_lacking():
    b = TraceBuilder()
    b.layer()
    check_lacks(TinyNormBatch, b.trace, "a normalisation layer")
    b.site(Kind.NORM, "layer_norm")
    check_lacks(TinyNormBatch, b.trace, "batch normalisation")
