import pytest

from unstuck.rules.norm.eval_mode_training import MIN_STEPS, EvalModeTraining
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def network(on=lambda step: step < 3, root=None, kind=Kind.DROPOUT, updates=0.01, steps=range(12)):
    """fc -> dropout -> head; `on` says when dropout is active, `root` when the network is in train mode."""
    b = TraceBuilder(steps)
    fc = b.layer("fc", weight=normal(1, 4, 4))
    site = b.site(kind, "dropout" if kind is Kind.DROPOUT else "batch_norm", "inner", after=fc)
    b.layer("head", weight=normal(1, 4, 4), after=site)
    for step in b.steps:
        b.scalar(site, "training", float(on(step)), [step])
        b.scalar(site, "root_training", float((root or on)(step)), [step])
    (weight,) = b.trace.parameters_of(fc)
    b.record(weight, Role.UPDATE, updates if callable(updates) else normal(updates, 4, 4))
    return b, site


class TestSilent:
    @pytest.mark.parametrize("on", [lambda _: True, lambda _: False], ids=["always on", "never on"])
    def test_one_mode_throughout(self, on):
        check_silent(EvalModeTraining, network(on)[0].trace)

    def test_on_again_at_the_end(self):
        check_silent(EvalModeTraining, network(lambda step: step < 3 or step == 11)[0].trace)

    def test_norms_frozen_late_while_the_network_is_in_train_mode(self):
        check_silent(EvalModeTraining, network(root=lambda _: True, kind=Kind.NORM)[0].trace)

    def test_layers_before_it_that_no_longer_learn(self):
        def updates(step):
            return normal(0.01 if step < 3 else 0.0, 4, 4)

        check_silent(EvalModeTraining, network(updates=updates)[0].trace)

    def test_layers_after_it_alone_learn(self):
        b, _ = network(updates=0.0)
        head = b.trace.of_kind(Kind.WEIGHT_LAYER)[1]
        b.record(b.trace.parameters_of(head)[0], Role.UPDATE, normal(0.01, 4, 4))
        check_silent(EvalModeTraining, b.trace)

    def test_too_few_steps(self):
        check_silent(EvalModeTraining, network(lambda step: step < 12 - MIN_STEPS + 1)[0].trace)


class TestFires:
    @pytest.mark.parametrize("kind", [Kind.DROPOUT, Kind.NORM])
    def test_an_evaluation_left_it_so(self, kind):
        b, site = network(kind=kind)
        finding = check_fires(EvalModeTraining, b.trace, at=site)
        assert (finding.measured, finding.steps) == (9.0, (3, 11))
        assert finding.message.endswith("in eval mode in all training steps from 3 on, as is the whole network")

    def test_as_few_steps_as_suffice(self):
        b, site = network(lambda step: step < 12 - MIN_STEPS)
        check_fires(EvalModeTraining, b.trace, at=site)

    def test_several_layers_are_one_finding(self):
        b, site = network()
        second = b.site(Kind.DROPOUT, "dropout", "second", after=site)
        for name in ("training", "root_training"):
            for step in b.steps:
                b.scalar(second, name, float(step < 3), [step])
        assert check_fires(EvalModeTraining, b.trace, at=site).evidence[0].value == 2.0


def test_lacking():
    b = TraceBuilder()
    (weight,) = b.trace.parameters_of(b.layer(weight=normal(1, 4, 4)))
    check_lacks(EvalModeTraining, b.trace, "parameters before and after an update")
    b.record(weight, Role.UPDATE, normal(0.01, 4, 4))
    check_lacks(EvalModeTraining, b.trace, "batch normalisation or dropout")
