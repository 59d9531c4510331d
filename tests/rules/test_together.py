import pytest

from unstuck.rules.together import lacking, named, of_ranks, place_of, size_at, trained_together

from .ranks.several import alone, merged


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([1], "rank 1"),
        ([0, 3], "ranks 0 and 3"),
        ([0, 1, 2, 3], "ranks 0, 1, 2 and 3"),
        (range(9), "ranks 0, 1, 2, 3 and 5 more"),
    ],
)
def test_names(ranks, text):
    assert named(ranks) == text


def test_one_process():
    trace = alone().trace
    assert place_of(trace) is None
    assert of_ranks(trace, "rank_loss")[0] == []
    assert not trained_together(trace)
    assert size_at(trace, 2) == 1


def test_several():
    b, place = merged(range(3), 2)
    assert place_of(b.trace) is place
    steps, losses = of_ranks(b.trace, "rank_loss")
    assert (steps, losses.tolist()) == ([0, 1, 2], [[1.0, 1.0]] * 3)
    assert trained_together(b.trace)
    assert (size_at(b.trace, 2), size_at(b.trace, 3)) == (2, 1)
    assert lacking(b.trace, 3) is None
    assert lacking(b.trace, 4).endswith("at 4 sampled steps")
