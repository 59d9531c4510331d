from unstuck.findings import Severity
from unstuck.rules.ranks.same_data_on_every_rank import MIN_STEPS, SameDataOnEveryRank
from unstuck.rules.together import LACKING

from ..helpers import check_fires, check_lacks, check_silent
from .several import alone, merged


def same(step):
    return [float(step)] * 3


def run(data=same, steps=range(10), **spread):
    b, _ = merged(steps, 3, rank_data=data, **spread)
    return b, b.loss()


class TestSilent:
    def test_other_data_in_each_process(self):
        check_silent(SameDataOnEveryRank, run(lambda step: [0.0, 1.0, 2.0])[0].trace)

    def test_one_process_is_given_other_data(self):
        check_silent(SameDataOnEveryRank, run(lambda step: [1.0, 1.0, 2.0])[0].trace)

    def test_one_step_differs(self):
        check_silent(SameDataOnEveryRank, run(lambda step: [1.0, 1.0, float(step != 3)])[0].trace)

    def test_layers_that_are_computed_together(self):
        check_silent(SameDataOnEveryRank, run(tensor_parallel=1.0)[0].trace)

    def test_networks_of_their_own(self):
        check_silent(SameDataOnEveryRank, run(gradients_equal=0.0)[0].trace)


class TestFires:
    def test_the_same_data(self):
        b, loss = run()
        message = "all 3 processes were given the same data and targets at all 10 steps compared"
        finding = check_fires(SameDataOnEveryRank, b.trace, at=loss, message=message, severity=Severity.WARNING)
        assert (finding.measured, finding.threshold, finding.steps) == (10.0, 4.0, (0, 9))

    def test_steps_at_which_it_is_not_known_do_not_count(self):
        b, loss = run(lambda step: [-1.0, -1.0, 5.0] if step % 2 else same(step))
        assert check_fires(SameDataOnEveryRank, b.trace, at=loss).measured == 5.0

    def test_shards_of_fsdp(self):
        b, loss = run(gradients_equal=0.0, data_parallel=1.0)
        check_fires(SameDataOnEveryRank, b.trace, at=loss)


class TestLacks:
    def test_one_process(self):
        check_lacks(SameDataOnEveryRank, alone().trace, LACKING)

    def test_few_steps(self):
        b, _ = run(steps=range(MIN_STEPS - 1))
        check_lacks(SameDataOnEveryRank, b.trace, "data from outside the network, at 4 sampled steps")
