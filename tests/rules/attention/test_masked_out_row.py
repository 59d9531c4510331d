import math

import numpy as np

from unstuck.findings import Severity
from unstuck.rules.attention.masked_out_row import MaskedOutRow
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def softmax(rows, bad=()):
    """A softmax with so many masked rows at each step of a dict, in a run whose loss is NaN at the steps of `bad`."""
    b = TraceBuilder()
    site = b.site(Kind.SOFTMAX, "softmax", "pool")
    for step, count in rows.items():
        b.scalar(site, "masked_rows", count, [step])
    for step in bad:
        b.trace.objective[step] = math.nan
    return b, site


class TestSilent:
    def test_rows_with_something_to_look_at(self):
        check_silent(MaskedOutRow, softmax({})[0].trace)

    def test_non_finite_numbers_of_another_cause(self):
        check_silent(MaskedOutRow, softmax(dict.fromkeys(range(10), 0.0), bad=range(10))[0].trace)

    def test_rows_whose_result_is_replaced(self):
        check_silent(MaskedOutRow, softmax(dict.fromkeys(range(10), 3.0))[0].trace)

    def test_rows_that_did_no_harm_before_something_else_broke_the_loss(self):
        check_silent(MaskedOutRow, softmax(dict.fromkeys(range(10), 3.0), bad=range(5, 10))[0].trace)

    def test_rows_that_came_after_the_loss_had_broken(self):
        check_silent(MaskedOutRow, softmax({7: 3.0, 9: 1.0}, bad=range(5, 10))[0].trace)


class TestFires:
    def test_rows_that_break_the_loss(self):
        b, site = softmax({4: 2.0, **dict.fromkeys(range(5, 10), 1.0)}, bad=range(4, 10))
        finding = check_fires(
            MaskedOutRow,
            b.trace,
            at=site,
            severity=Severity.ERROR,
            message="2 rows given to pool (softmax) are -inf throughout at step 4, and their result is NaN",
        )
        assert (finding.measured, finding.steps) == (2.0, (4, 9))

    def test_rows_that_break_only_gradients(self):
        b, site = softmax({9: 1.0})
        weight = b.parameter("weight", b.layer("fc"), "weight", np.ones((2, 2)))
        b.record(weight, Role.GRADIENT, np.full((2, 2), np.nan), [9])
        check_fires(MaskedOutRow, b.trace, at=site)

    def test_first_rows_in_a_step_that_was_not_sampled(self):
        b = TraceBuilder(steps=[0, 1, 2, 5, 6])
        site = b.site(Kind.ATTENTION, "scaled_dot_product_attention")
        b.scalar(site, "masked_rows", 1.0, [5])
        b.trace.objective |= dict.fromkeys(range(3, 7), math.nan)
        check_fires(MaskedOutRow, b.trace, at=site)


def test_needs_the_loss():
    b = TraceBuilder()
    b.trace.objective.clear()
    check_lacks(MaskedOutRow, b.trace, "the values of the loss")
