import pytest

from unstuck.rules.loss.wrong_softmax_axis import MIN_EXAMPLES, WrongSoftmaxAxis
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def network(shape, dim, predictions, *, loss="cross_entropy", op="softmax", odd=(), steps=range(10)):
    """A softmax over dimension `dim` of `shape` on the way to a loss; at `odd` steps over the last dimension."""
    b = TraceBuilder(steps)
    softmax = b.site(Kind.SOFTMAX, op)
    end = b.loss(loss, far=softmax)
    for step in b.steps:
        b.trace.add_vector(step, softmax.index, "shape", shape)
        b.trace.add_vector(step, end.index, "prediction_shape", predictions)
        b.scalar(softmax, "dim", len(shape) - 1 if step in odd else dim, [step])
    return b, softmax


class TestSilent:
    @pytest.mark.parametrize(
        ("shape", "dim", "predictions"),
        [
            ((48, 5), 1, (48, 5)),  # classes
            ((64, 256), 1, (64, 5)),  # neighbours
            ((64, 64), 1, (64, 64)),  # the other examples
            ((64, 64), 0, (64, 64)),  # and their columns
            ((64, 4096), 0, (64, 4096)),  # a queue whose length is a multiple
            ((16, 40, 1), 0, (40, 5)),  # time first
            ((40, 16, 1), 1, (40, 5)),
            ((32, 4, 32, 32), 3, (32, 5)),  # attention over as many positions as examples
            ((128, 32, 32), 2, (32, 5)),  # with the heads in the batch
            ((40, 1), 0, (40, 3)),  # a pool of one set
            ((40,), 0, (40, 3)),
            ((8, 4, 12, 12), 3, (96, 16)),  # a language model
            ((8, 4, 12, 12), 1, (96, 16)),  # over heads, which is odd but no fault of this rule
            ((12, 12, 12), 0, (144, 16)),  # which dimension is meant cannot be told
            ((2, 5), 0, (2, 5)),  # too few examples
        ],
    )
    def test_another_axis(self, shape, dim, predictions):
        check_silent(WrongSoftmaxAxis, network(shape, dim, predictions)[0].trace)

    def test_sequences_of_vectors_whose_first_dimension_may_be_time(self):
        check_silent(WrongSoftmaxAxis, network((16, 40, 1), 0, (16, 40, 3), loss="mse_loss")[0].trace)

    def test_a_softmax_that_reaches_no_loss(self):
        b, _ = network((48, 5), 0, (48, 5))
        b.trace.edges.clear()
        check_silent(WrongSoftmaxAxis, b.trace)


class TestFires:
    def test_classes(self):
        b, softmax = network((48, 5), 0, (48, 5), loss="kl_div", op="log_softmax")
        finding = check_fires(
            WrongSoftmaxAxis,
            b.trace,
            at=softmax,
            message="log_softmax goes over dimension 0 of (48, 5), which holds the 48 examples of the batch",
        )
        assert (finding.measured, finding.steps, finding.evidence[0].value) == (48, (0, 9), 0)

    @pytest.mark.parametrize(
        ("shape", "dim", "predictions"),
        [
            ((16, 40, 1), 1, (40, 5)),  # pooling over time, time first
            ((40, 16), 0, (40, 5)),
            ((8, 4, 12, 12), 0, (96, 16)),  # attention in a language model, whose predictions are flattened
            ((8, 4, 12, 12), 0, (8, 5)),
            ((48, 5), 0, (48, 5)),
            ((48, 3, 8, 8), 0, (48, 3, 8, 8)),
        ],
    )
    def test_over_the_examples(self, shape, dim, predictions):
        b, softmax = network(shape, dim, predictions)
        check_fires(WrongSoftmaxAxis, b.trace, at=softmax)

    def test_two_losses_give_one_finding(self):
        b, softmax = network((48, 5), 0, (48, 5))
        other = b.loss("mse_loss", baseline=1.0, far=softmax)
        for step in b.steps:
            b.trace.add_vector(step, other.index, "prediction_shape", (48, 2))
        check_fires(WrongSoftmaxAxis, b.trace, at=softmax)


@pytest.mark.parametrize("n", [MIN_EXAMPLES - 1, MIN_EXAMPLES])
def test_threshold(n):
    b, softmax = network((n, 5), 0, (n, 5))
    check_fires(WrongSoftmaxAxis, b.trace, at=softmax) if n == MIN_EXAMPLES else check_silent(WrongSoftmaxAxis, b.trace)


@pytest.mark.parametrize(("odd", "fires"), [(100, False), (99, True)])
def test_batches_of_another_size_now_and_then(odd, fires):
    """At 100 or 101 of 200 steps the softmax goes over the examples."""
    b, softmax = network((48, 5), 0, (48, 5), odd=range(odd), steps=range(200))
    check_fires(WrongSoftmaxAxis, b.trace, at=softmax) if fires else check_silent(WrongSoftmaxAxis, b.trace)


def test_needs_a_backward_pass():
    b, _ = network((48, 5), 0, (48, 5))
    b.trace.facts.backward_calls = 0
    check_lacks(WrongSoftmaxAxis, b.trace, "a backward pass")
