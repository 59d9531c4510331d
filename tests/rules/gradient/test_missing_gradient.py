import pytest

from unstuck.findings import Severity
from unstuck.rules.gradient.missing_gradient import MAX_MISSING, MissingGradient
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def mark(b, site, missing, steps=None):
    """Say of all parameters of a layer whether they lack a gradient."""
    for parameter in b.trace.parameters_of(site):
        b.scalar(parameter, "gradient_missing", float(missing), b.steps if steps is None else steps)


def chain(*missing, steps=range(10)):
    """Layers one after another and a loss; `missing` says which get no gradient."""
    b, layers = TraceBuilder(steps), []
    for number, lost in enumerate(missing):
        layers.append(b.layer(f"fc{number}", weight=normal(1, 3, 3), bias=normal(1, 3), after=layers[-1:]))
        mark(b, layers[-1], lost)
    b.loss(after=layers[-1])
    return b, layers


class TestSilent:
    def test_all_get_gradients(self):
        check_silent(MissingGradient, chain(False, False)[0].trace)

    def test_frozen_on_purpose(self):
        b, layers = chain(True, False)
        for parameter in b.trace.parameters_of(layers[0]):
            parameter.requires_grad = False
        check_silent(MissingGradient, b.trace)

    def test_networks_trained_in_turn(self):
        b, layers = chain(False, True)
        mark(b, layers[1], False, steps=[5])
        check_silent(MissingGradient, b.trace)

    def test_unused_head_on_a_trained_trunk(self):
        b, layers = chain(False, False)
        mark(b, b.layer("pooler", weight=normal(1, 3, 3), after=layers[0]), True)
        check_silent(MissingGradient, b.trace)

    def test_teacher_that_only_makes_targets(self):
        b, _ = chain(False, False)
        first = b.layer("teacher.fc", weight=normal(1, 3, 3))
        second = b.layer("teacher.head", weight=normal(1, 3, 3), after=first)
        mark(b, first, True)
        mark(b, second, True)
        b.loss("mse_loss", after=second)
        check_silent(MissingGradient, b.trace)

    def test_target_network_whose_output_is_detached(self):
        b, layers = chain(False, False)
        for layer in layers:
            for parameter in b.trace.parameters_of(layer):
                b.record(parameter, Role.GRADIENT, normal(1e-3, *parameter.shape))
        first = b.layer("target.fc0", weight=normal(1, 3, 3), bias=normal(1, 3))
        second = b.layer("target.fc1", weight=normal(1, 3, 3), bias=normal(1, 3), after=first)
        mark(b, first, True)
        mark(b, second, True)
        check_silent(MissingGradient, b.trace)

    def test_running_average_that_is_copied_in(self):
        b, layers = chain(True, False)
        for parameter in b.trace.parameters_of(layers[0]):
            b.record(parameter, Role.UPDATE, normal(1e-3, 3))
        check_silent(MissingGradient, b.trace)

    def test_seen_in_too_few_of_many_steps(self):
        b, _layers = chain(False, False)
        mark(b, b.layer("rare", weight=normal(1, 3, 3)), True, steps=[0, 1, 2])
        check_silent(MissingGradient, b.trace)

    def test_unused_parameters_have_no_say(self):
        b, _ = chain(False)
        b.parameter("spare", None, "", normal(1, 3))
        check_silent(MissingGradient, b.trace)


class TestFires:
    def test_detached_hidden_state(self):
        b, layers = chain(True, True, False)
        finding = check_fires(
            MissingGradient,
            b.trace,
            at=layers[1],
            message="4 parameters of 2 layers up to fc1 (linear) took part in 10 sampled steps "
            "and got a gradient in none of them",
            severity=Severity.ERROR,
        )
        assert (finding.measured, finding.threshold, finding.unit) == (4.0, MAX_MISSING, "parameters")
        assert finding.steps == (0, 9)

    def test_copied_out_of_the_graph(self):
        # torch.tensor(h): nothing observed uses what the layer made
        b, _ = chain(False)
        lost = b.layer("encoder", weight=normal(1, 3, 3), bias=normal(1, 3))
        mark(b, lost, True)
        message = "2 parameters of encoder (linear) took part in 10 sampled steps and got a gradient in none of them"
        check_fires(MissingGradient, b.trace, at=lost, message=message, severity=Severity.WARNING)

    def test_single_parameter(self):
        b, layers = chain(False, False)
        bias = b.trace.parameters_of(layers[0])[1]
        b.scalar(bias, "gradient_missing", 1.0, b.steps)
        message = "fc0.bias of fc0 (linear) took part in 10 sampled steps and got a gradient in none of them"
        check_fires(MissingGradient, b.trace, at=layers[0], message=message)

    def test_detached_head_beside_a_trained_one(self):
        b, layers = chain(False, False)
        head = b.layer("second_head", weight=normal(1, 3, 3), after=layers[0])
        mark(b, head, True)
        b.loss("mse_loss", after=head)
        check_fires(MissingGradient, b.trace, at=head, severity=Severity.ERROR)

    def test_layers_in_a_loop(self):
        b, layers = chain(True, True, False)
        b.edge(layers[1], layers[0])
        check_fires(MissingGradient, b.trace, at=layers[1])

    def test_embedding(self):
        b, layers = chain(False)
        table = b.layer("embed", weight=normal(1, 9, 3), kind=Kind.EMBEDDING)
        mark(b, table, True)
        b.edge(table, layers[0], direct=False)
        check_fires(MissingGradient, b.trace, at=table)

    def test_parameter_without_a_layer(self):
        b, _ = chain(False)
        scale = b.parameter("scale", None, "", normal(1, 3))
        b.scalar(scale, "gradient_missing", 1.0, b.steps)
        message = "scale took part in 10 sampled steps and got a gradient in none of them"
        check_fires(MissingGradient, b.trace, at=scale, message=message)

    def test_whole_of_a_short_run(self):
        b, layers = chain(True, False, steps=[0])
        check_fires(MissingGradient, b.trace, at=layers[0])


@pytest.mark.parametrize("with_gradient", [[], [9]])
def test_threshold_one_gradient_is_enough(with_gradient):
    b, layers = chain(True, False)
    mark(b, layers[0], False, steps=with_gradient)
    if with_gradient:
        check_silent(MissingGradient, b.trace)
    else:
        check_fires(MissingGradient, b.trace, at=layers[0])


def test_lacking():
    check_lacks(
        MissingGradient,
        TraceBuilder().trace,
        "a parameter that requires a gradient and was used in a forward pass",
    )
    check_lacks(MissingGradient, TraceBuilder([]).trace, "a backward pass")
