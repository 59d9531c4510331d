from unstuck.findings import Severity
from unstuck.rules.ranks.ranks_out_of_sync import RanksOutOfSync
from unstuck.rules.together import LACKING
from unstuck.trace import Kind

from ..helpers import check_fires, check_lacks, check_silent
from .several import alone, merged


def run(differ=lambda step: 0.0, *, gradients_equal=1.0, prints=lambda step: [5.0, 5.0], steps=range(10)):
    """Two parameters, of which the second is the same everywhere; `differ` tells of the first."""
    b, _ = merged(steps, gradients_equal=gradients_equal, rank_parameters=prints)
    first, second = (b.site(Kind.PARAMETER, "parameter", name) for name in ("fc.weight", "fc.bias"))
    for step in b.steps:
        b.scalar(first, "ranks_differ", differ(step), [step])
        b.scalar(second, "ranks_differ", 0.0, [step])
    return b, first


class TestSilent:
    def test_equal_copies(self):
        check_silent(RanksOutOfSync, run()[0].trace)

    def test_networks_of_their_own(self):
        """Other values and other gradients from the start."""
        check_silent(RanksOutOfSync, run(lambda step: 1.0, gradients_equal=0.0)[0].trace)

    def test_copies_that_are_averaged_now_and_then(self):
        check_silent(RanksOutOfSync, run(lambda step: float(step % 4 != 0), gradients_equal=0.0)[0].trace)

    def test_two_steps_apart(self):
        check_silent(RanksOutOfSync, run(lambda step: float(step > 0), gradients_equal=0.0, steps=range(3))[0].trace)


class TestFires:
    def test_other_values_with_the_same_gradients(self):
        b, first = run(lambda step: 1.0, prints=lambda step: [5.0, 6.0])
        finding = check_fires(
            RanksOutOfSync,
            b.trace,
            at=first,
            severity=Severity.ERROR,
            message=(
                "rank 1 and rank 0 hold different values of 1 of 2 parameters at step 9, "
                "though their gradients are the same"
            ),
        )
        assert (finding.measured, finding.threshold, finding.steps) == (1.0, 0.0, (0, 9))
        assert [e.value for e in finding.evidence] == [2.0, 1.0]

    def test_one_parameter_at_one_step(self):
        b, first = run(lambda step: float(step == 4))
        finding = check_fires(RanksOutOfSync, b.trace, at=first)
        assert finding.steps == (4, 4)

    def test_copies_that_part_and_stay_apart(self):
        b, first = run(
            lambda step: float(step > 0), gradients_equal=0.0, steps=range(4), prints=lambda step: [1.0, 2.0]
        )
        check_fires(
            RanksOutOfSync,
            b.trace,
            at=first,
            severity=Severity.WARNING,
            message=(
                "rank 1 and rank 0 hold different values of 1 of 2 parameters at step 3, and their gradients differ too"
            ),
        )


class TestLacks:
    def test_one_process(self):
        check_lacks(RanksOutOfSync, alone().trace, LACKING)

    def test_shards_alone(self):
        check_lacks(RanksOutOfSync, merged()[0].trace, "parameters that each process holds whole")
