from __future__ import annotations

import math

import pytest
import torch

from unstuck.lm.activations import ACTIVATIONS, activation, gain
from unstuck.lm.errors import LmError


@pytest.mark.parametrize(
    ("name", "published"), [("tanh", 5 / 3), ("relu", math.sqrt(2)), ("selu", 3 / 4), ("sigmoid", 1), ("linear", 1)]
)
def test_published_gains_are_used(name: str, published: float) -> None:
    assert gain(name) == pytest.approx(published)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu", "linear"])
def test_the_gain_keeps_the_mean_square(name: str) -> None:
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    kept = gain(name) ** 2 * activation(name)(z).square().mean().item()
    assert kept == pytest.approx(1, rel=0.01)


def test_every_activation_has_a_gain() -> None:
    assert all(0.5 < gain(name) < 2 for name in ACTIVATIONS)


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    known = "tanh, relu, leaky_relu, elu, selu, gelu, silu, sigmoid, linear"
    for ask in (gain, activation):
        with pytest.raises(LmError) as caught:
            ask("tahn")
        assert str(caught.value) == f"unknown activation 'tahn': choose one of {known}"
