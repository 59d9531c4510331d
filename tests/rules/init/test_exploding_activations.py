import pytest

from unstuck.rules.depth import MIN_LAYERS
from unstuck.rules.init.exploding_activations import MAX_GROWTH, MAX_SLOPE, ExplodingActivations
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, findings, normal

LACKS = "4 hidden weight layers in a row"


def network(*stds, between=None):
    """Hidden layers whose outputs have these standard deviations, an activation after each, and an output layer."""
    b, last, layers = TraceBuilder(), (), []
    for number, std in enumerate(stds):
        layers.append(
            b.layer(f"fc{number}", weight=normal(0.1, 5, 5), output=normal(std, 64, 5) if std else None, after=last)
        )
        last = b.activation("relu", after=layers[-1], pre=normal(std or 1.0, 64, 5))
        if between is not None:
            last = b.site(between, "between", after=last)
    b.loss(after=b.layer("head", weight=normal(0.1, 5, 5), output=normal(1000.0, 64, 5), after=last))
    return b, layers


def powers(factor, layers):
    return [factor**k for k in range(layers)]


class TestSilent:
    def test_a_steady_scale(self):
        check_silent(ExplodingActivations, network(*powers(1.0, 8))[0].trace)

    def test_a_large_scale_that_stays(self):
        check_silent(ExplodingActivations, network(*[500.0] * 6)[0].trace)

    def test_a_shrinking_scale(self):
        check_silent(ExplodingActivations, network(*powers(0.3, 8))[0].trace)

    def test_one_layer_that_stands_out(self):
        check_silent(ExplodingActivations, network(1, 1, 40, 1, 1, 1)[0].trace)

    def test_a_large_output_layer(self):
        check_silent(ExplodingActivations, network(1, 1, 1, 1)[0].trace)

    def test_loaded_weights(self):
        b, _ = network(*powers(3.0, 8))
        b.trace.facts.weights_loaded = True
        check_silent(ExplodingActivations, b.trace)

    @pytest.mark.parametrize("kind", [Kind.NORM, Kind.ATTENTION, Kind.RECURRENT])
    def test_chains_that_get_a_new_scale_on_the_way(self, kind):
        check_lacks(ExplodingActivations, network(*powers(3.0, 8), between=kind)[0].trace, LACKS)

    def test_layers_that_feed_a_norm(self):
        b, layers = network(*powers(3.0, 6))
        for layer in layers:
            b.site(Kind.NORM, "batch_norm", far=layer)
        check_lacks(ExplodingActivations, b.trace, LACKS)

    def test_residual_blocks(self):
        b = TraceBuilder()
        stream = [b.layer("stem", weight=normal(0.1, 5, 5), output=normal(1.0, 64, 5))]
        for number in range(8):
            up = b.layer(f"up{number}", weight=normal(0.1, 5, 5), output=normal(3.0**number, 64, 5), far=stream)
            act = b.activation("relu", after=up, pre=normal(1.0, 64, 5))
            stream.append(
                b.layer(f"down{number}", weight=normal(0.1, 5, 5), output=normal(3.0**number, 64, 5), after=act)
            )
        b.loss(after=b.layer("head", weight=normal(0.1, 5, 5), far=stream))
        check_lacks(ExplodingActivations, b.trace, LACKS)

    def test_one_matrix_again_and_again(self):
        b, layers = network(*powers(3.0, 8))
        for layer in layers[1:]:
            layer.parameters = layers[0].parameters
        check_lacks(ExplodingActivations, b.trace, LACKS)

    def test_outputs_that_are_zero_or_not_finite(self):
        b, layers = network(*powers(3.0, 3))
        nan = b.layer("nan", weight=normal(0.1, 5, 5), output=normal(1.0, 64, 5) * float("nan"))
        b.edge(nan, layers[0])
        check_lacks(ExplodingActivations, b.trace, LACKS)


class TestFires:
    def test_growth_over_eight_layers(self):
        b, layers = network(*powers(2.0, 8))
        finding = check_fires(
            ExplodingActivations,
            b.trace,
            at=layers[0],
            message="the outputs' std grows from 1 at fc0 (linear) to 1.3e+02 at fc7 (linear), 128-fold over 8 weight "
            "layers (0.30 decades per layer); 10-fold is the limit",
        )
        assert finding.measured == pytest.approx(128)
        assert [(e.name, round(e.value, 3)) for e in finding.evidence] == [
            ("slope", 0.301),
            ("weight layers", 8.0),
            ("std at the first", 1.0),
            ("std at the last", 128.0),
        ]

    def test_two_chains_from_one_layer_count_once(self):
        b, layers = network(*powers(3.0, 6))
        other = b.layer("other", weight=normal(0.1, 5, 5), output=normal(2000, 64, 5), after=layers[-1])
        b.layer("head2", weight=normal(0.1, 5, 5), after=other)
        assert len(findings(ExplodingActivations, b.trace)) == 1

    def test_only_the_start_counts(self):
        b, layers = network(*powers(3.0, 6))
        for layer in layers:
            b.record(layer, Role.OUTPUT, normal(1.0, 64, 5), steps=[10])
        check_fires(ExplodingActivations, b.trace, at=layers[0])


@pytest.mark.parametrize("layers", [MIN_LAYERS, 9])
def test_threshold(layers):
    just = MAX_GROWTH ** (1 / (layers - 1))
    check_silent(ExplodingActivations, network(*powers(0.98 * just, layers))[0].trace)
    b, sites = network(*powers(1.02 * just, layers))
    check_fires(ExplodingActivations, b.trace, at=sites[0])


@pytest.mark.parametrize("side", [0.98, 1.02])
def test_slope_over_many_layers(side):
    b, sites = network(*powers(10 ** (side * MAX_SLOPE), 40))
    if side > 1:
        check_fires(ExplodingActivations, b.trace, at=sites[0])
    else:
        check_silent(ExplodingActivations, b.trace)


def test_needs_a_chain():
    check_lacks(ExplodingActivations, network(1, 10, 100)[0].trace, LACKS)
    check_lacks(
        ExplodingActivations,
        TraceBuilder([5]).trace,
        "the first step of training; a weight layer (a linear map, matmul or convolution with a parameter)",
    )
