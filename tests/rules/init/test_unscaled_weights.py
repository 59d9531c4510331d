import math

import numpy as np
import pytest

from unstuck.rules.init.unscaled_weights import UnscaledWeights
from unstuck.rules.scale import LARGE_STD, SMALL_STD, TOO_LARGE, TOO_SMALL, is_unscaled
from unstuck.trace import Kind, Role

from ..helpers import FUNCTIONS, TraceBuilder, check_fires, check_lacks, check_silent, findings, normal

FAN_IN = 100


def weight(ratio, op="tanh", units=50):
    """Weights `ratio` times as large as the function's gain asks for."""
    return normal(ratio * FUNCTIONS[op][1] / math.sqrt(FAN_IN), units, FAN_IN)


def network(ratio=1.0, std=1.0, *, op="tanh", depth=1, w=None):
    """`depth` hidden layers, each with its function, and an output layer"""
    b, last, layers = TraceBuilder(), (), []
    for number in range(depth):
        layers.append(b.layer(f"fc{number}", weight=weight(ratio, op) if w is None else w, after=last))
        last = b.activation(op, after=layers[-1], pre=normal(std, 64, 50))
    head = b.layer("head", weight=normal(0.1, 27, FAN_IN), after=last, output=normal(1.0, 64, 27))
    b.loss(after=head)
    b.record(b.trace.of_kind(Kind.PARAMETER)[0], Role.GRADIENT, normal(1e-3, 50, FAN_IN))
    return b, layers, head


class TestSilent:
    @pytest.mark.parametrize("op", ["tanh", "relu", "gelu"])
    def test_default_of_torch(self, op):
        w = np.random.default_rng(0).uniform(-1, 1, (50, FAN_IN)) / math.sqrt(FAN_IN)
        check_silent(UnscaledWeights, network(w=w, std=0.2, op=op, depth=4)[0].trace)

    def test_large_weights_on_small_inputs(self):
        check_silent(UnscaledWeights, network(6.0, std=1.0)[0].trace)

    def test_fitting_weights_on_large_inputs(self):
        check_silent(UnscaledWeights, network(1.0, std=50.0)[0].trace)

    def test_large_weights_that_make_small_pre_activations(self):
        check_silent(UnscaledWeights, network(6.0, std=0.01)[0].trace)

    def test_zero_weights(self):
        check_silent(UnscaledWeights, network(w=np.zeros((50, FAN_IN)), std=0.0, depth=3)[0].trace)

    def test_followed_by_a_norm(self):
        b = TraceBuilder()
        fc = b.layer("fc", weight=weight(6.0), output=normal(10, 64, 50))
        b.record(b.trace.sites[fc.parameters[0]], Role.GRADIENT, weight(1))
        norm = b.site(Kind.NORM, "layer_norm", after=fc)
        b.layer("head", after=b.activation("tanh", after=norm, pre=normal(1, 64, 50)))
        check_silent(UnscaledWeights, b.trace)

    @pytest.mark.parametrize("kind", [Kind.LOSS, Kind.SOFTMAX, Kind.ATTENTION])
    def test_followed_by_loss_or_attention(self, kind):
        b = TraceBuilder()
        fc = b.layer("fc", weight=weight(6.0), output=normal(10, 64, 50))
        b.record(b.trace.sites[fc.parameters[0]], Role.GRADIENT, weight(1))
        b.layer("head", after=b.site(kind, "any", after=fc))
        check_silent(UnscaledWeights, b.trace)

    def test_output_layer_with_a_sigmoid(self):
        b, _, head = network()
        b.trace.edges = {e for e in b.trace.edges if e.producer != head.index}
        sigmoid = b.activation("sigmoid", after=head, pre=normal(30, 64, 27))
        b.loss("binary_cross_entropy", after=sigmoid)
        b.record(b.trace.sites[head.parameters[0]], Role.VALUE, normal(5, 27, FAN_IN))
        check_silent(UnscaledWeights, b.trace)

    def test_followed_by_an_addition(self):
        b, layers, _ = network(6.0, std=10.0)
        b.trace.edges = {e for e in b.trace.edges if e.producer != layers[0].index}
        b.edge(layers[0], b.trace.of_kind(Kind.ACTIVATION)[0], direct=False)
        check_silent(UnscaledWeights, b.trace)

    def test_embedding(self):
        b = TraceBuilder()
        b.layer("fc", weight=weight(6.0), output=normal(10, 64, 50), kind=Kind.EMBEDDING)
        b.layer("fc2", weight=weight(1))
        b.record(b.trace.of_kind(Kind.PARAMETER)[0], Role.GRADIENT, weight(1))
        check_silent(UnscaledWeights, b.trace)

    def test_loaded_weights(self):
        b, *_ = network(6.0, std=10.0)
        b.trace.facts.weights_loaded = True
        check_silent(UnscaledWeights, b.trace)

    def test_a_single_small_layer_such_as_a_wide_first_one(self):
        check_silent(UnscaledWeights, network(0.05, std=0.1)[0].trace)

    def test_small_layers_inside_residual_connections(self):
        b, layers, head = network(0.05, std=0.1, depth=3)
        stem = b.layer("stem")
        b.edge(stem, layers[0])
        b.edge(stem, head, direct=False)
        check_silent(UnscaledWeights, b.trace)

    def test_small_layers_before_a_norm(self):
        b, _layers, head = network(0.05, std=0.1, depth=3)
        norm = b.site(Kind.NORM, "layer_norm", after=b.trace.producers(head))
        b.edge(norm, head)
        check_silent(UnscaledWeights, b.trace)

    def test_small_layers_right_after_a_norm(self):
        b, layers, _ = network(0.05, std=0.1, depth=2)
        norm = b.site(Kind.NORM, "layer_norm")
        b.edge(norm, layers[0])
        check_silent(UnscaledWeights, b.trace)


class TestFires:
    def test_unit_normal_weights_before_tanh(self):
        b, (layer,), _ = network(w=normal(1.0, 50, FAN_IN), std=10.0)
        finding = check_fires(
            UnscaledWeights,
            b.trace,
            at=layer,
            message="weights of fc0 (linear) start with std 1, 6 times the 0.167 that fits tanh at fan-in 100; "
            "the pre-activations' std is 10",
        )
        assert finding.measured == pytest.approx(6.0)
        assert (finding.threshold, finding.unit, finding.fixes) == (TOO_LARGE, "1", ("rescale-weights",))

    def test_weights_with_a_mean(self):
        b, (layer,), _ = network(w=np.random.default_rng(0).uniform(0, 1, (50, FAN_IN)), std=5.0)
        check_fires(UnscaledWeights, b.trace, at=layer)

    def test_followed_by_another_weight_layer(self):
        b, _, _head = network()
        first = b.layer("first", weight=weight(6.0), output=normal(10, 64, 50))
        b.edge(first, b.layer("second", after=first))
        check_fires(UnscaledWeights, b.trace, at=first)

    def test_seen_through_dropout(self):
        b, (layer,), _ = network(6.0, std=10.0)
        b.trace.edges = {e for e in b.trace.edges if e.producer != layer.index}
        dropout = b.site(Kind.DROPOUT, "dropout", after=layer)
        b.edge(dropout, b.trace.of_kind(Kind.ACTIVATION)[0])
        check_fires(UnscaledWeights, b.trace, at=layer)

    def test_small_layers_in_a_plain_chain(self):
        b, layers, _ = network(0.05, std=0.05, depth=3)
        found = findings(UnscaledWeights, b.trace)
        assert [f.site_index for f in found] == [layer.index for layer in layers]
        assert {f.threshold for f in found} == {TOO_SMALL}


class TestThreshold:
    @pytest.mark.parametrize(
        ("ratio", "std", "expected"),
        [
            (TOO_LARGE * 0.99, LARGE_STD * 2, False),
            (TOO_LARGE * 1.01, LARGE_STD * 2, True),
            (TOO_LARGE * 2, LARGE_STD * 0.99, False),
            (TOO_LARGE * 2, LARGE_STD * 1.01, True),
            (TOO_SMALL * 1.01, SMALL_STD / 2, False),
            (TOO_SMALL * 0.99, SMALL_STD / 2, True),
            (TOO_SMALL / 2, SMALL_STD * 1.01, False),
            (TOO_SMALL / 2, SMALL_STD * 0.99, True),
        ],
    )
    def test_either_side(self, ratio, std, expected):
        assert is_unscaled(ratio * (5 / 3) / math.sqrt(30), 30, 5 / 3, std) is expected
        b, _layers, _ = network(ratio, std, depth=2)
        assert len(findings(UnscaledWeights, b.trace)) == 2 * expected

    @pytest.mark.parametrize("bad", [(math.nan, 30, 1.0, 9.0), (9.0, 30, 1.0, math.nan), (9.0, 0, 1.0, 9.0)])
    def test_any_number(self, bad):
        assert not is_unscaled(*bad)


def test_lacking():
    b, *_ = network()
    b.trace.steps = [5]
    check_lacks(UnscaledWeights, b.trace, "the first step of training")
