import pytest

from unstuck.rules.activation.shrinking_rank import MIN_FALL, MIN_SHARE, ShrinkingRank
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = (0, 5, 10, 20, 40, 80)
LACKS = "20 steps with a last layer of 32 units, fed 32 rows or more"


def network(ranks, *, loss="objective", direct=True, hidden=False):
    """A layer of 64 units with these effective ranks before the loss, or `hidden` before another layer."""
    b = TraceBuilder(STEPS)
    layer = b.layer("code", weight=normal(0.1, 64, 8))
    for step, rank in zip(STEPS, ranks, strict=False):
        b.trace.add_scalar(step, layer.index, "rank", rank)
        b.trace.add_scalar(step, layer.index, "rank_limit", 64.0)
    last = b.layer("head", weight=normal(0.1, 64, 64), after=layer) if hidden else layer
    b.loss(loss, **{"after" if direct else "far": last})
    return b, layer


class TestSilent:
    def test_a_rank_that_stays(self):
        check_silent(ShrinkingRank, network([30, 29, 31, 30, 28, 30])[0].trace)

    def test_a_rank_that_rises(self):
        check_silent(ShrinkingRank, network([1, 1, 2, 5, 20, 30])[0].trace)

    def test_low_from_the_start(self):
        check_silent(ShrinkingRank, network([3.0, 3.0, 2.5, 2.0, 1.8, 1.6])[0].trace)

    def test_one_low_value(self):
        check_silent(ShrinkingRank, network([30, 30, 30, 30, 30, 1])[0].trace)

    def test_hidden_layers(self):
        check_silent(ShrinkingRank, network([30, 30, 20, 10, 2, 1.2], hidden=True)[0].trace)

    def test_logits(self):
        check_silent(ShrinkingRank, network([30, 30, 20, 10, 2, 1.2], loss="cross_entropy")[0].trace)

    @pytest.mark.parametrize("direct", [True, False])
    def test_targets_that_lie_along_a_few_directions(self, direct):
        check_silent(ShrinkingRank, network([30, 30, 20, 10, 2, 1.2], loss="mse_loss", direct=direct)[0].trace)


class TestFires:
    @pytest.mark.parametrize("loss", ["objective", "cosine_embedding_loss", "cross_entropy"])
    def test_collapse(self, loss):
        b, layer = network([30, 31, 10, 4, 1.6, 1.2], loss=loss, direct=False)
        finding = check_fires(
            ShrinkingRank,
            b.trace,
            at=layer,
            message="the outputs of code (linear) spread over 1.4 directions at step 80 (effective rank), 2 % of the "
            "64 possible; at the start over 31.0",
        )
        assert finding.measured == pytest.approx(100 * 1.4 / 64)
        assert finding.steps == (0, 80)

    def test_all_rows_the_same(self):
        b, layer = network([30, 31, 0, 0, 0, 0])
        check_fires(ShrinkingRank, b.trace, at=layer)


@pytest.mark.parametrize(("factor", "fires"), [(0.98, True), (1.02, False)])
def test_threshold(factor, fires):
    b, layer = network([30, 30, 20, 10, *[factor * MIN_SHARE / 100 * 64] * 2])
    if fires:
        check_fires(ShrinkingRank, b.trace, at=layer)
    else:
        check_silent(ShrinkingRank, b.trace)


@pytest.mark.parametrize(("factor", "fires"), [(0.98, False), (1.02, True)])
def test_threshold_of_the_fall(factor, fires):
    b, layer = network([*[3.0 * MIN_FALL * factor] * 2, 4, 3.5, 3.0, 3.0])
    if fires:
        check_fires(ShrinkingRank, b.trace, at=layer)
    else:
        check_silent(ShrinkingRank, b.trace)


def test_needs_ranks():
    check_lacks(ShrinkingRank, network([30, 20, 1])[0].trace, LACKS)
    b = TraceBuilder()
    b.site(Kind.WEIGHT_LAYER, "linear")
    check_lacks(ShrinkingRank, b.trace, LACKS)
