import pytest

from unstuck.rules.loss.broadcast_loss import BroadcastLoss, all_with_all
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

ALLOWED = [
    ((64, 1), (64, 1)),
    ((64,), (64,)),
    ((64, 1), ()),  # a label for all
    ((64, 1), (1,)),
    ((64, 3), (3,)),  # one target for all examples
    ((5, 64, 1), (64, 1)),  # an ensemble
    ((64, 32, 1), (64, 1, 32)),  # quantiles, all with all, written out
    ((1, 1), (1,)),
    ((), (64,)),
]
WRONG = [((64, 1), (64,), 64), ((64,), (64, 1), 64), ((12, 12, 1), (12, 12), 12), ((8, 12, 1), (12, 5), 5)]


def network(predictions, targets, op="mse_loss", *, kind=Kind.LOSS, odd=(), steps=range(10)):
    b = TraceBuilder(steps)
    site = b.site(kind, op)
    for step in b.steps:
        b.trace.add_vector(step, site.index, "prediction_shape", (1, 1) if step in odd else predictions)
        b.trace.add_vector(step, site.index, "target_shape", (1,) if step in odd else targets)
    return b, site


class TestSilent:
    @pytest.mark.parametrize(("predictions", "targets"), ALLOWED)
    def test_shapes(self, predictions, targets):
        check_silent(BroadcastLoss, network(predictions, targets)[0].trace)
        assert all_with_all(predictions, targets) == 1.0

    @pytest.mark.parametrize("op", ["cross_entropy", "nll_loss", "ctc_loss", "triplet_margin_loss"])
    def test_losses_that_do_not_go_element_by_element(self, op):
        check_silent(BroadcastLoss, network((64, 1), (64,), op)[0].trace)

    def test_a_loss_without_a_target(self):
        b = TraceBuilder()
        site = b.site(Kind.LOSS, "mse_loss")
        b.trace.add_vector(0, site.index, "prediction_shape", (64, 1))
        check_silent(BroadcastLoss, b.trace)


class TestFires:
    @pytest.mark.parametrize(("predictions", "targets", "pairs"), WRONG)
    def test_shapes(self, predictions, targets, pairs):
        b, site = network(predictions, targets)
        assert check_fires(BroadcastLoss, b.trace, at=site).measured == pairs

    @pytest.mark.parametrize(
        ("predictions", "targets", "side"),
        [
            ((64, 1), (64,), ("predictions", 1)),
            ((64,), (64, 1), ("targets", 1)),
            ((12, 1, 5), (12, 5), ("predictions", 1)),
            ((8, 12, 1), (12, 5), None),
        ],
    )
    def test_the_dimension_too_many(self, predictions, targets, side):
        b, site = network(predictions, targets)
        found = [(e.name, e.value) for e in check_fires(BroadcastLoss, b.trace, at=site).evidence[1:]]
        assert found == ([(f"superfluous dimension of the {side[0]}", side[1])] if side else [])

    def test_message(self):
        b, site = network((64, 1), (64,), "smooth_l1_loss")
        finding = check_fires(
            BroadcastLoss,
            b.trace,
            at=site,
            message="smooth_l1_loss compares predictions of shape (64, 1) with targets of shape (64,): "
            "each prediction with 64 targets",
        )
        assert (finding.measured, finding.steps, finding.evidence[0].value) == (64.0, (0, 9), 4096.0)

    def test_a_difference_written_by_hand(self):
        b, site = network((64, 1), (64,), "sub", kind=Kind.OPERATION)
        check_fires(BroadcastLoss, b.trace, at=site)

    @pytest.mark.parametrize(("odd", "fires"), [(100, False), (99, True)])
    def test_most_of_the_steps(self, odd, fires):
        """101 of 200, not 100."""
        b, site = network((64, 1), (64,), odd=range(odd), steps=range(200))
        check_fires(BroadcastLoss, b.trace, at=site) if fires else check_silent(BroadcastLoss, b.trace)


def test_needs_a_backward_pass():
    b, _ = network((64, 1), (64,))
    b.trace.facts.backward_calls = 0
    check_lacks(BroadcastLoss, b.trace, "a backward pass")
