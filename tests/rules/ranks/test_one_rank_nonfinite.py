import pytest

from unstuck.findings import Severity
from unstuck.rules.ranks.one_rank_nonfinite import OneRankNonfinite
from unstuck.rules.together import LACKING

from ..helpers import check_fires, check_lacks, check_silent
from .several import alone, merged


def run(*since):
    """The last merge knows that these were the first steps without a finite loss, rank by rank (-1: none)."""
    return merged(size=len(since), rank_nonfinite_since=lambda step: list(since) if step == 9 else [-1.0] * len(since))


class TestSilent:
    def test_all_finite(self):
        check_silent(OneRankNonfinite, run(-1.0, -1.0)[0].trace)

    def test_all_at_the_same_step(self):
        """As with a learning rate that is too high."""
        check_silent(OneRankNonfinite, run(4.0, 4.0, 4.0)[0].trace)


class TestFires:
    @pytest.mark.parametrize(
        ("since", "message"),
        [
            ((-1, 4), "the loss of rank 1 is not finite at step 4, that of the other 1 still is"),
            (
                (5, 4, 5),
                "the loss of rank 1 is not finite at step 4, that of the other 2 still is; "
                "the others followed from step 5 on",
            ),
            ((4, -1, 4), "the loss of ranks 0 and 2 is not finite at step 4, that of the other 1 still is"),
        ],
    )
    def test_some_before_others(self, since, message):
        b, place = run(*map(float, since))
        finding = check_fires(OneRankNonfinite, b.trace, at=place, message=message, severity=Severity.ERROR)
        assert (finding.steps, finding.threshold) == ((4, 4), 0.0)
        assert finding.measured == sum(step == 4 for step in since)

    def test_at_the_first_place_where_that_rank_had_such_values(self):
        b, _ = run(-1.0, 4.0)
        first, second, other = (b.layer(f"fc{n}") for n in range(3))
        for site, rank in ((second, 1.0), (first, 1.0), (other, 0.0)):
            b.scalar(site, "bad_ranks", 1.0, [4])
            b.scalar(site, "first_bad_rank", rank, [4])
        check_fires(OneRankNonfinite, b.trace, at=first)


def test_one_process():
    check_lacks(OneRankNonfinite, alone().trace, LACKING)
