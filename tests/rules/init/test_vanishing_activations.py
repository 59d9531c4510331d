import math

import numpy as np
import pytest
import torch

from unstuck.rules.init.vanishing_activations import MAX_SHRINKAGE, MAX_SLOPE, VanishingActivations
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .test_exploding_activations import LACKS, network, powers


def default_layers(width, depth):
    """Standard deviations of the outputs of torch's default layers, each after a ReLU but the first."""
    generator, stds = torch.Generator().manual_seed(0), []
    x = torch.randn(200, width, generator=generator)
    for _ in range(depth):
        bound = 1 / math.sqrt(width)
        w, bias = (((torch.rand(n, width, generator=generator) * 2 - 1) * bound) for n in (width, 1))
        x = x @ w.T + bias
        stds.append(float(x.std()))
        x = x.relu()
    return stds


class TestSilent:
    def test_a_steady_scale(self):
        check_silent(VanishingActivations, network(*powers(1.0, 8))[0].trace)

    def test_a_growing_scale(self):
        check_silent(VanishingActivations, network(*powers(4.0, 8))[0].trace)

    @pytest.mark.parametrize(("width", "depth"), [(16, 6), (64, 8), (512, 12)])
    def test_the_default_of_torch(self, width, depth):
        check_silent(VanishingActivations, network(*default_layers(width, depth))[0].trace)

    def test_one_layer_that_stands_out(self):
        check_silent(VanishingActivations, network(1, 1, 0.001, 1, 1, 1)[0].trace)

    def test_loaded_weights(self):
        b, _ = network(*powers(0.3, 8))
        b.trace.facts.weights_loaded = True
        check_silent(VanishingActivations, b.trace)

    def test_norms_on_the_way(self):
        check_lacks(VanishingActivations, network(*powers(0.3, 8), between=Kind.NORM)[0].trace, LACKS)

    def test_layers_that_start_at_zero(self):
        b, _ = network(1, 1, 1)
        b.layer("zero", output=np.zeros((64, 5)))
        check_lacks(VanishingActivations, b.trace, LACKS)


def test_fires():
    b, layers = network(*powers(0.5, 7))
    finding = check_fires(
        VanishingActivations,
        b.trace,
        at=layers[0],
        message="the outputs' std shrinks from 1 at fc0 (linear) to 0.016 at fc6 (linear), 64-fold over 7 weight "
        "layers (-0.30 decades per layer); 30-fold is the limit",
    )
    assert finding.measured == pytest.approx(64)
    assert finding.evidence[0].value == pytest.approx(-0.30103)


@pytest.mark.parametrize("layers", [4, 9])
def test_threshold(layers):
    just = MAX_SHRINKAGE ** (-1 / (layers - 1))
    check_silent(VanishingActivations, network(*powers(1.02 * just, layers))[0].trace)
    b, sites = network(*powers(0.98 * just, layers))
    check_fires(VanishingActivations, b.trace, at=sites[0])


@pytest.mark.parametrize("side", [0.98, 1.02])
def test_slope_over_many_layers(side):
    b, sites = network(*powers(10 ** (-side * MAX_SLOPE), 40))
    if side > 1:
        check_fires(VanishingActivations, b.trace, at=sites[0])
    else:
        check_silent(VanishingActivations, b.trace)


def test_needs_a_chain():
    check_lacks(VanishingActivations, network(1, 0.1, 0.01)[0].trace, LACKS)
    lacks = "a weight layer (a linear map, matmul or convolution with a parameter)"
    check_lacks(VanishingActivations, TraceBuilder().trace, lacks)
