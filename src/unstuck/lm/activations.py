"""Activation functions by name, and the gain each asks of the weights before it.

The gain g makes weights of standard deviation g/√fan_in keep the mean square of a layer's input: published values where
`torch.nn.init.calculate_gain` has them (tanh 5/3, relu √2, selu 3/4, …), else He et al.'s condition
(https://arxiv.org/abs/1502.01852) g = 1/√E[f(z)²] for z ~ N(0, 1), which gives √2 for relu, too.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from unstuck.lm.errors import require_choice

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}
_PUBLISHED = ("tanh", "relu", "leaky_relu", "selu", "sigmoid", "linear")


def activation(name: str) -> nn.Module:
    """A new activation module; raises LmError for an unknown name."""
    require_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def gain(name: str) -> float:
    """The gain of the activation `name`; raises LmError for an unknown name."""
    require_choice("activation", name, ACTIVATIONS)
    if name in _PUBLISHED:
        # the module's own slope is 0.01, which is also calculate_gain's default
        return float(nn.init.calculate_gain(name))  # type: ignore[arg-type]
    return 1 / math.sqrt(mean_square(ACTIVATIONS[name]()))


def mean_square(function: nn.Module) -> float:
    """E[f(z)²] for z ~ N(0, 1), by the rectangle rule in float64 (its error vanishes as the density does at ±12)."""
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return float((function(z).square() * density).sum() * (z[1] - z[0]))
