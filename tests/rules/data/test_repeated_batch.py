from unstuck.findings import Severity
from unstuck.rules.data.repeated_batch import MIN_STEPS, RepeatedBatch
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def run(data=lambda step: 5.0, target=lambda step: 7.0, *, steps=range(10), drawn=1.0, calls=1.0):
    """A layer with data of these bits and a loss with targets of these bits (None: without)."""
    b = TraceBuilder(steps)
    layer = b.layer("fc1")
    b.layer("other")
    loss = b.loss(after=b.layer("fc2", after=layer))
    for step in b.steps:
        for name, value in (("data_bits", data(step)), ("data_drawn", drawn), ("data_calls", calls)):
            b.scalar(layer, name, value, [step])
        if target is not None:
            b.scalar(loss, "target_bits", target(step), [step])
            b.scalar(loss, "target_elements", 64.0, [step])
    return b, loss


class TestSilent:
    def test_other_data_each_time(self):
        check_silent(RepeatedBatch, run(float)[0].trace)

    def test_one_other_batch(self):
        check_silent(RepeatedBatch, run(lambda step: 6.0 if step == 9 else 5.0)[0].trace)

    def test_noise_on_the_targets_alone(self):
        check_silent(RepeatedBatch, run(target=float)[0].trace)

    def test_positions_beside_symbols(self):
        b, loss = run(float)
        positions = b.site(Kind.EMBEDDING, "embedding", "place")
        b.edge(positions, loss, direct=False)
        b.scalar(positions, "data_bits", 3.0, b.steps)
        check_silent(RepeatedBatch, b.trace)

    def test_constant_data_that_goes_elsewhere(self):
        b, _ = run(float)
        b.scalar(b.trace.sites[1], "data_bits", 3.0, b.steps)
        check_silent(RepeatedBatch, b.trace)


class TestFires:
    def test_drawn_anew(self):
        b, loss = run()
        finding = check_fires(
            RepeatedBatch,
            b.trace,
            at=loss,
            severity=Severity.WARNING,
            message="the data and targets of all 10 sampled steps are the same to the bit, though each step drew its "
            "batch anew from more data",
        )
        assert [(e.name, e.value) for e in finding.evidence] == [("sampled steps", 10.0), ("targets in a batch", 64.0)]

    def test_at_as_few_steps_as_it_takes(self):
        b, loss = run(steps=range(MIN_STEPS))  # one fewer, and it is not checked: `test_needs_data`
        check_fires(RepeatedBatch, b.trace, at=loss, severity=Severity.WARNING)

    def test_all_data_at_once_is_information(self):
        b, loss = run(drawn=0.0)
        check_fires(
            RepeatedBatch,
            b.trace,
            at=loss,
            severity=Severity.INFO,
            message="the data and targets of all 10 sampled steps are the same to the bit",
        )

    def test_several_batches_that_may_be_all_data_are_information(self):
        b, loss = run(calls=4.0)
        check_fires(RepeatedBatch, b.trace, at=loss, severity=Severity.INFO)

    def test_a_loss_without_targets(self):
        b, loss = run(target=None)
        check_fires(RepeatedBatch, b.trace, at=loss)

    def test_is_said_once(self):
        b, loss = run()
        b.loss("mse_loss", after=b.trace.sites[0])
        check_fires(RepeatedBatch, b.trace, at=loss)


def test_needs_data():
    missing = "data that a layer takes from outside the network, at 8 sampled steps"
    check_lacks(RepeatedBatch, TraceBuilder().trace, missing)
    check_lacks(RepeatedBatch, run(steps=range(MIN_STEPS - 1))[0].trace, missing)
