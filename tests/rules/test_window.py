import numpy as np
import pytest

from unstuck.rules.window import MIN_SAMPLED_STEPS, finite, seen_enough, span

from .helpers import TraceBuilder


@pytest.mark.parametrize(
    ("run", "sampled", "enough"),
    [(10, MIN_SAMPLED_STEPS, True), (10, MIN_SAMPLED_STEPS - 1, False), (2, 2, True), (2, 1, False), (0, 0, False)],
)
def test_four_steps_or_the_whole_run(run, sampled, enough):
    assert seen_enough(TraceBuilder(range(run)).trace, sampled) is enough


def test_finite_and_span():
    steps, values = finite((np.array([1, 4, 9]), np.array([np.nan, 2.0, 3.0])))
    assert span(steps) == (4, 9)
    assert values.tolist() == [2.0, 3.0]
