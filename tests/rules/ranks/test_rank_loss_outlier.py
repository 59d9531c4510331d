import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.ranks.rank_loss_outlier import MAX_RATIO, MIN_MERGES, RankLossOutlier
from unstuck.rules.together import LACKING

from ..helpers import check_fires, check_lacks, check_silent
from .several import alone, merged

NOISE = np.random.default_rng(0).normal(0, 0.02, (40, 8))


def run(*means, steps=20, noise=1.0):
    """Each rank's loss about its mean."""
    size = len(means)
    return merged(range(steps), size, rank_loss=lambda step: (np.array(means) + noise * NOISE[step, :size]).tolist())


class TestSilent:
    @pytest.mark.parametrize("size", [2, 4, 8])
    def test_shards_drawn_at_random(self, size):
        check_silent(RankLossOutlier, run(*[1.0] * size)[0].trace)

    def test_below_the_threshold(self):
        check_silent(RankLossOutlier, run(1.0, MAX_RATIO - 0.03, noise=0.1)[0].trace)

    def test_a_difference_that_noise_explains(self):
        """Seven of ten steps alike, three far off."""
        check_silent(RankLossOutlier, run(1.0, 1.6, noise=80.0)[0].trace)
        means = merged(range(20), 2, rank_loss=lambda step: [1.0, 4.0 if step in (12, 17) else 1.0])[0]
        check_silent(RankLossOutlier, means.trace)

    def test_losses_that_are_not_positive(self):
        check_silent(RankLossOutlier, run(-1.0, 1.0)[0].trace)

    def test_losses_that_are_not_finite(self):
        check_silent(RankLossOutlier, run(1.0, np.nan)[0].trace)

    def test_only_at_the_start(self):
        b, _ = merged(range(20), 2, rank_loss=lambda step: [1.0, 3.0 if step < 10 else 1.0])
        check_silent(RankLossOutlier, b.trace)


class TestFires:
    def test_one_of_two(self):
        b, place = run(0.5, 2.0)
        finding = check_fires(RankLossOutlier, b.trace, at=place, severity=Severity.WARNING)
        own, theirs = (evidence.value for evidence in finding.evidence[:2])
        ratio = finding.measured
        assert finding.message == f"the loss of rank 1 is {own:.4g}, {ratio:.2g} × that of the others ({theirs:.4g})"
        assert finding.measured == pytest.approx(4.0, rel=0.1)
        assert finding.steps == (10, 19)

    def test_one_of_four(self):
        b, place = run(1.0, 1.0, 2.0, 1.0)
        assert "the loss of rank 2 is" in check_fires(RankLossOutlier, b.trace, at=place).message

    def test_just_above_the_threshold(self):
        b, place = run(1.0, MAX_RATIO + 0.03, noise=0.1)
        check_fires(RankLossOutlier, b.trace, at=place)


class TestLacks:
    def test_one_process(self):
        check_lacks(RankLossOutlier, alone().trace, LACKING)

    def test_few_merges(self):
        b, _ = run(1.0, 9.0, steps=MIN_MERGES - 1)
        check_lacks(RankLossOutlier, b.trace, f"{LACKING}, at 8 sampled steps")
