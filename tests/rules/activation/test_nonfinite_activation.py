import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.activation.nonfinite_activation import MAX_GROWTH, NonfiniteActivation
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

BAD = 3


def spoiled(value=np.nan, std=1.0):
    x = normal(std, 64, 5)
    x[0, 0] = value
    return x


def network(*, source=None, made=None, last=None, weight=None, bad=BAD):
    """A layer, an operation that breaks at step `bad`, and an output layer; the loss is NaN from then on."""
    b = TraceBuilder()
    first = b.layer("first", weight=normal(0.1, 5, 5) if weight is None else weight)
    b.record(first, Role.OUTPUT, lambda step: normal(1.0, 64, 5) if source is None else source(step))
    operation = b.site(Kind.OPERATION, "div", after=first)
    b.record(operation, Role.OUTPUT, spoiled() if made is None else made, steps=range(bad, 10))
    head = b.layer("head", weight=normal(0.1, 5, 5), far=operation)
    b.record(head, Role.OUTPUT, lambda step: spoiled() if step >= bad else normal(1.0, 64, 5) if last is None else last)
    b.loss(after=head)
    for step in range(bad, 10):
        b.trace.objective[step] = np.nan
    return b, operation


class TestSilent:
    def test_finite_losses(self):
        b, _ = network()
        b.trace.objective = dict.fromkeys(range(10), 1.0)
        check_silent(NonfiniteActivation, b.trace)

    def test_a_mask_that_is_infinite_at_all_steps(self):
        b, operation = network()
        b.record(operation, Role.OUTPUT, spoiled(-np.inf), steps=range(BAD))
        head = b.trace.of_kind(Kind.WEIGHT_LAYER)[-1]
        check_silent(NonfiniteActivation, b.trace)  # what is left is the output layer
        assert head.path == "head"

    def test_a_place_after_the_last_layer(self):
        b = TraceBuilder()
        operation = b.site(Kind.OPERATION, "log", after=b.layer("fc", weight=normal(0.1, 5, 5)))
        b.record(operation, Role.OUTPUT, spoiled())
        b.loss(far=operation)
        b.trace.objective[0] = np.inf
        check_silent(NonfiniteActivation, b.trace)

    def test_parameters_that_are_spoiled_already(self):
        b, _ = network(weight=lambda step: normal(0.1, 5, 5) * (np.nan if step >= BAD else 1.0))
        check_silent(NonfiniteActivation, b.trace)

    def test_data_that_is_not_finite(self):
        b, _ = network(source=lambda step: spoiled() if step >= BAD else normal(1.0, 64, 5))
        first = b.trace.of_kind(Kind.WEIGHT_LAYER)[0]
        b.record(first, Role.INPUT, spoiled())
        check_silent(NonfiniteActivation, b.trace)

    def test_overflow_of_a_run_that_has_diverged(self):
        b, _ = network(source=lambda step: normal(10.0 ** (2 * step), 64, 5), made=spoiled(np.inf))
        check_silent(NonfiniteActivation, b.trace)


class TestFires:
    def test_an_operation_that_breaks(self):
        b, operation = network()
        finding = check_fires(
            NonfiniteActivation,
            b.trace,
            at=operation,
            severity=Severity.ERROR,
            message="1 of the 320 elements that div made at step 3 are NaN or infinite, and what it was given "
            "is finite",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (1.0, 0.0, (3, 9))

    def test_at_the_first_step(self):
        b, operation = network(bad=0)
        check_fires(NonfiniteActivation, b.trace, at=operation)

    def test_a_layer_that_overflows(self):
        b = TraceBuilder()
        first = b.layer("first", weight=normal(0.1, 5, 5), output=normal(200.0, 64, 5))
        second = b.layer("second", weight=normal(0.1, 5, 5), after=first, output=spoiled(np.inf))
        b.loss(after=b.layer("head", weight=normal(0.1, 5, 5), after=second, output=spoiled()))
        b.trace.objective = dict.fromkeys(range(10), np.nan)
        check_fires(NonfiniteActivation, b.trace, at=second)


def told(*, rms=None, losses=(1.0, 1.0), source=1.0, spoiled_parameter=False):
    """A step between samples, 17, of whose graph is known that an operation made the first NaN."""
    b = TraceBuilder([0, 1, 18])
    b.trace.objective = {0: losses[0], 16: losses[1], 17: np.nan, 18: np.nan}
    first = b.layer("first", weight=normal(0.1, 5, 5))
    b.record(first, Role.OUTPUT, {0: normal(1.0, 64, 5), 1: normal(source, 64, 5), 18: spoiled()})
    operation = b.site(Kind.OPERATION, "div", far=first)
    b.layer("head", weight=normal(0.1, 5, 5), far=operation)
    b.trace.add_scalar(17, operation.index, "born", 3)
    b.trace.add_scalar(17, operation.index, "born_of", 320)
    (weight,) = b.trace.parameters_of(first)
    if spoiled_parameter:
        b.trace.add_scalar(17, weight.index, "spoiled", 1)
    elif rms is not None:
        b.trace.add_scalar(17, weight.index, "rms_then", rms)
    return b, operation


class TestBetweenSamples:
    def test_fires_at_the_operation(self):
        b, operation = told(rms=0.1)
        message = (
            "3 of the 320 elements that div made at step 17 are NaN or infinite, and nothing before is known to be"
        )
        finding = check_fires(NonfiniteActivation, b.trace, at=operation, message=message)
        assert finding.steps == (17, 18)

    def test_silent_on_parameters_that_are_spoiled_already(self):
        check_silent(NonfiniteActivation, told(spoiled_parameter=True)[0].trace)

    @pytest.mark.parametrize("share", [0.95, 1.05])
    @pytest.mark.parametrize("what", ["rms", "loss", "source"])
    def test_growth(self, what, share):
        growth = share * MAX_GROWTH
        case = {"rms": {"rms": 0.1 * growth}, "loss": {"losses": (1.0, growth)}, "source": {"source": growth}}
        b, operation = told(**case[what])
        if share < 1:
            check_fires(NonfiniteActivation, b.trace, at=operation)
        else:
            check_silent(NonfiniteActivation, b.trace)


@pytest.mark.parametrize(("growth", "fires"), [(0.99 * MAX_GROWTH, True), (1.01 * MAX_GROWTH, False)])
def test_threshold(growth, fires):
    b, operation = network(source=lambda step: normal(growth if step >= BAD else 1.0, 64, 5))
    if fires:
        check_fires(NonfiniteActivation, b.trace, at=operation)
    else:
        check_silent(NonfiniteActivation, b.trace)


def test_needs_the_loss():
    b = TraceBuilder()
    b.trace.objective.clear()
    check_lacks(NonfiniteActivation, b.trace, "the values of the loss")
