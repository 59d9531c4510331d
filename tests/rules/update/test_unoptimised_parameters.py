import numpy as np

from unstuck.findings import Severity
from unstuck.rules.update.unoptimised_parameters import MIN_STEPS, UnoptimisedParameters
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STILL = normal(0.1, 3, 5)
NOTHING = np.zeros((3, 5))


def moving(step):
    return STILL + 0.01 * step


def network(steps=range(10)):
    """A layer whose weight an optimizer updates."""
    b = TraceBuilder(steps)
    weight = layer(b, "body", moving, update=normal(0.01, 3, 5))
    optimizer = b.site(Kind.OPTIMIZER, "SGD", parameters=(weight.index,))
    return b, optimizer


def layer(b, path, value=STILL, *, gradient=STILL, update=NOTHING, **fields):
    owner = b.layer(path)
    weight = b.parameter(f"{path}.weight", owner, "weight", value)
    for name, setting in fields.items():
        setattr(weight, name, setting)
    if gradient is not None:
        b.record(weight, Role.GRADIENT, gradient)
    if update is not None:
        b.record(weight, Role.UPDATE, update)
    return weight


class TestSilent:
    def test_everything_is_optimised(self):
        check_silent(UnoptimisedParameters, network()[0].trace)

    def test_frozen_on_purpose(self):
        b, _ = network()
        layer(b, "head", requires_grad=False)
        check_silent(UnoptimisedParameters, b.trace)

    def test_in_another_optimizer(self):
        b, _ = network()
        weight = layer(b, "generator")
        b.site(Kind.OPTIMIZER, "Adam", parameters=(weight.index,))
        check_silent(UnoptimisedParameters, b.trace)

    def test_in_the_optimizer_with_an_update_that_does_nothing(self):
        b, optimizer = network()
        optimizer.parameters += (layer(b, "head").index,)
        check_silent(UnoptimisedParameters, b.trace)

    def test_without_a_gradient_or_with_one_of_zero(self):
        b, _ = network()
        layer(b, "unused", gradient=None)
        layer(b, "idle", gradient=NOTHING)
        check_silent(UnoptimisedParameters, b.trace)

    def test_changed_by_hand_after_the_optimizer_stepped(self):
        b, _ = network()
        layer(b, "head", moving)
        check_silent(UnoptimisedParameters, b.trace)

    def test_updated_by_other_means(self):
        b, _ = network()
        layer(b, "head", update=normal(0.01, 3, 5))
        check_silent(UnoptimisedParameters, b.trace)

    def test_too_few_steps_since_the_last_change(self):
        b, _ = network()
        layer(b, "head", lambda step: STILL * (2.0 if step < 11 - MIN_STEPS else 1.0))
        check_silent(UnoptimisedParameters, b.trace)

    def test_when_no_optimizer_changes_anything_any_more(self):
        b = TraceBuilder()
        b.site(Kind.OPTIMIZER, "SGD", parameters=(layer(b, "body").index,))
        layer(b, "head")
        check_silent(UnoptimisedParameters, b.trace)

    def test_what_no_layer_uses(self):
        b, _ = network()
        b.record(b.parameter("mask", None, "", STILL), Role.GRADIENT, STILL)
        check_silent(UnoptimisedParameters, b.trace)


class TestFires:
    def test_left_out_of_all_groups(self):
        b, _ = network()
        weight = layer(b, "patches")
        finding = check_fires(
            UnoptimisedParameters,
            b.trace,
            at=weight,
            severity=Severity.WARNING,
            message="patches.weight gets gradients but is in no optimizer: the same to the bit at the last 10 sampled "
            "steps",
        )
        assert [(e.name, e.value) for e in finding.evidence] == [
            ("parameters in optimizers", 1.0),
            ("sampled steps without a change", 10.0),
        ]

    def test_a_head_that_was_replaced(self):
        b, _ = network()
        head = layer(b, "head", lambda step: moving(min(step, 11 - MIN_STEPS - 1)), update=None)
        b.record(head, Role.UPDATE, lambda step: normal(0.01, 3, 5) if step < 5 else NOTHING)
        assert check_fires(UnoptimisedParameters, b.trace, at=head).steps == (6, 9)

    def test_several_are_one_finding_at_the_first_layer(self):
        b, _ = network()
        first = layer(b, "a")
        layer(b, "b")
        assert check_fires(UnoptimisedParameters, b.trace, at=first).message.startswith("a.weight (and 1 more) gets")

    def test_below_a_loaded_network_it_is_information(self):
        b, _ = network()
        b.trace.facts.weights_loaded = True
        check_fires(UnoptimisedParameters, b.trace, at=layer(b, "backbone"), severity=Severity.INFO)


def test_needs_an_optimizer():
    b = TraceBuilder()
    layer(b, "body", moving, update=normal(0.01, 3, 5))
    check_lacks(UnoptimisedParameters, b.trace, "the step of an optimizer of torch")
    check_lacks(
        UnoptimisedParameters, TraceBuilder().trace, "gradients of parameters; parameters before and after an update"
    )
