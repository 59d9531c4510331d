import math

import numpy as np

from unstuck.findings import Severity
from unstuck.rules.data.nonfinite_input import NonfiniteInput
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal
from .given import fed, give


def holed(features=(2,), value=np.nan, rows=3, width=8):
    x = normal(1.0, 16, width)
    x[np.ix_(range(rows), features)] = value
    return x


class TestSilent:
    def test_finite_data_however_large(self):
        check_silent(NonfiniteInput, fed(normal(1e30, 16, 8))[0].trace)

    def test_an_output_that_overflows(self):
        b, layer = fed(normal(1.0, 16, 8))
        b.record(layer, Role.OUTPUT, np.full((4, 4), np.inf))
        check_silent(NonfiniteInput, b.trace)

    def test_data_made_by_a_network_whose_parameters_are_broken(self):
        b, layer = fed(lambda step: holed() if step > 4 else normal(1.0, 16, 8))
        b.parameter("fc1.weight", layer, "weight", lambda step: np.full((2, 8), np.nan if step > 4 else 1.0))
        check_silent(NonfiniteInput, b.trace)

    def test_the_state_of_a_recurrence_written_by_hand(self):
        b, layer = fed(holed())
        b.edge(b.trace.sites[1], layer, direct=False)
        give(b, b.layer("first"), normal(1.0, 16, 8))
        check_silent(NonfiniteInput, b.trace)


class TestFires:
    def test_at_every_step(self):
        b, layer = fed(holed())
        for step in b.steps:
            b.trace.objective[step] = math.nan
        finding = check_fires(
            NonfiniteInput,
            b.trace,
            at=layer,
            severity=Severity.ERROR,
            message="3 of 128 elements of the input of fc1 (linear) are NaN or infinite at step 0, in feature 2",
        )
        assert [(e.name, e.value) for e in finding.evidence] == [
            ("first step", 0.0),
            ("steps seen with such data", 10.0),
            ("share of the elements", 100 * 3 / 128),
        ]

    def test_what_the_graph_of_a_step_between_samples_told(self):
        b, layer = fed(normal(1.0, 16, 8))
        b.trace.objective |= dict.fromkeys((17, 18), math.nan)
        b.trace.add_scalar(17, layer.index, "born_in_input", 3)
        b.trace.add_scalar(17, layer.index, "born_in_input_of", 128)
        message = "3 of 128 elements of the input of fc1 (linear) are NaN or infinite at step 17"
        finding = check_fires(NonfiniteInput, b.trace, at=layer, severity=Severity.ERROR, message=message)
        assert finding.steps == (17, 17)
        assert finding.evidence[2].value == 100 * 3 / 128

    def test_one_infinite_element_of_one_batch_with_a_finite_loss(self):
        b, layer = fed(lambda step: holed((1, 5), -np.inf, 1) if step == 6 else normal(1.0, 16, 8))
        finding = check_fires(NonfiniteInput, b.trace, at=layer, severity=Severity.WARNING)
        assert finding.steps == (6, 6)
        assert finding.message.endswith("at step 6, in features 1, 5")

    def test_a_loss_that_breaks_later_is_an_error(self):
        b, layer = fed(lambda step: holed() if step == 6 else normal(1.0, 16, 8))
        b.trace.objective[8] = math.inf
        check_fires(NonfiniteInput, b.trace, at=layer, severity=Severity.ERROR)

    def test_many_features(self):
        b, layer = fed(holed((0, 1, 2, 3, 4)))
        assert check_fires(NonfiniteInput, b.trace, at=layer).message.endswith("in 5 of 8 features")

    def test_a_single_feature_is_not_named(self):
        b, layer = fed(holed((0,), width=1))
        assert check_fires(NonfiniteInput, b.trace, at=layer).message.endswith("at step 0")

    def test_a_norm_that_comes_first(self):
        b, norm = fed(holed(), kind=Kind.NORM, op="batch_norm")
        check_fires(NonfiniteInput, b.trace, at=norm)


def test_needs_float_data():
    b = TraceBuilder()
    b.layer()
    check_lacks(NonfiniteInput, b.trace, "float data that a layer takes from outside the network")
