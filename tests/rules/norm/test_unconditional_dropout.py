import pytest

from unstuck.rules.evaluation import MC_PASSES, NOT_SEEN
from unstuck.rules.norm.unconditional_dropout import UnconditionalDropout
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

ACTIVE = {"training": 1.0, "own_training": 0.0, "root_training": 0.0, "repeats": 0.0, "p": 0.2}


def network(op="dropout", steps=(80, 160), **changes):
    b = TraceBuilder()
    site = b.site(Kind.EVALUATION, op, "block")
    for name, value in {**ACTIVE, **changes}.items():
        b.scalar(site, name, value, steps)
    return b, site


class TestSilent:
    def test_off(self):
        check_silent(UnconditionalDropout, network(training=0.0)[0].trace)

    @pytest.mark.parametrize("name", ["own_training", "root_training"])
    def test_a_module_in_train_mode(self, name):
        check_silent(UnconditionalDropout, network(**{name: 1.0})[0].trace)

    def test_votes_of_several_passes(self):
        check_silent(UnconditionalDropout, network(repeats=MC_PASSES - 1.0)[0].trace)

    def test_probability_of_zero(self):
        check_silent(UnconditionalDropout, network(p=0.0)[0].trace)

    def test_batch_normalisation_by_the_batch(self):
        b, site = network("batch_norm")
        del b.trace._scalars[site.index, "p"]
        check_silent(UnconditionalDropout, b.trace)


class TestFires:
    @pytest.mark.parametrize("op", ["dropout", "scaled_dot_product_attention"])
    def test_on_in_eval_mode(self, op):
        b, site = network(op)
        message = f"block ({op}) drops with probability 0.2 although the network is in eval mode"
        finding = check_fires(UnconditionalDropout, b.trace, at=site, message=message)
        assert (finding.measured, finding.steps) == (2.0, (80, 160))

    def test_once_is_enough_and_two_passes_are_no_vote(self):
        b, site = network(steps=(80,), repeats=MC_PASSES - 2.0)
        check_fires(UnconditionalDropout, b.trace, at=site)


def test_lacking():
    check_lacks(UnconditionalDropout, TraceBuilder().trace, NOT_SEEN)
