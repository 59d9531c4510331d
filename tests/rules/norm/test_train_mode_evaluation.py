import pytest

from unstuck.rules.evaluation import MC_PASSES, NOT_SEEN
from unstuck.rules.norm.train_mode_evaluation import TrainModeEvaluation
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

ON = {"training": 1.0, "own_training": 1.0, "root_training": 1.0, "losses": 1.0, "comparisons": 0.0, "repeats": 0.0}


def network(op="dropout", path="drop", at=(1, 51, 101), entered=None, **changes):
    b = TraceBuilder()
    b.site(Kind.NORM if op == "batch_norm" else Kind.DROPOUT, op, "drop")
    site = b.site(Kind.EVALUATION, op, path)
    for count, step in enumerate(at, 1):
        numbers = {**ON, "entered": count if entered is None else entered[count - 1], **changes}
        for name, value in {**numbers, **({"p": 0.4} if op == "dropout" else {}), **changes}.items():
            b.scalar(site, name, value, [step])
    return b, site


class TestSilent:
    def test_eval_mode(self):
        off = {"training": 0.0, "own_training": 0.0, "root_training": 0.0}
        check_silent(TrainModeEvaluation, network(**off)[0].trace)

    def test_samples_targets_and_recalibration_compute_no_result(self):
        check_silent(TrainModeEvaluation, network(losses=0.0)[0].trace)

    def test_dropout_switched_on_in_a_network_in_eval_mode(self):
        check_silent(TrainModeEvaluation, network(root_training=0.0)[0].trace)

    def test_dropout_that_ignores_the_mode(self):
        check_silent(TrainModeEvaluation, network(own_training=0.0, root_training=0.0)[0].trace)

    def test_votes_of_several_passes(self):
        check_silent(TrainModeEvaluation, network(repeats=MC_PASSES - 1.0)[0].trace)

    def test_part_of_each_training_step(self):
        check_silent(TrainModeEvaluation, network(at=(1, 2, 3, 4, 8), entered=(1, 2, 3, 4, 8))[0].trace)

    def test_a_network_that_is_not_trained(self):
        check_silent(TrainModeEvaluation, network(path="Teacher.drop")[0].trace)

    def test_dropout_of_nothing(self):
        check_silent(TrainModeEvaluation, network(p=0.0)[0].trace)


class TestFires:
    def test_dropout(self):
        b, site = network()
        message = (
            "drop (dropout) drops units in an evaluation without gradients: the network is in train mode "
            "(3 of the evaluations looked at, 1 such layers)"
        )
        finding = check_fires(TrainModeEvaluation, b.trace, at=site, message=message)
        assert (finding.measured, finding.steps) == (3.0, (1, 101))
        assert [e.value for e in finding.evidence] == [1.0, 0.4]

    def test_batch_statistics(self):
        b, site = network("batch_norm")
        assert "normalises by the batch's statistics" in check_fires(TrainModeEvaluation, b.trace, at=site).message

    @pytest.mark.parametrize("changes", [{"losses": 0.0, "comparisons": 2.0}, {"repeats": MC_PASSES - 2.0}])
    def test_accuracy_alone_and_loss_beside_accuracy(self, changes):
        b, site = network(**changes)
        check_fires(TrainModeEvaluation, b.trace, at=site)

    def test_every_other_step_is_the_limit(self):
        b, site = network(at=(2, 100, 200), entered=(1, 50, 100))
        check_fires(TrainModeEvaluation, b.trace, at=site)
        check_silent(TrainModeEvaluation, network(at=(2, 100, 200), entered=(1, 50, 101))[0].trace)


def test_lacking():
    check_lacks(TrainModeEvaluation, TraceBuilder().trace, NOT_SEEN)
