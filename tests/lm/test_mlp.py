from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
import torch
from jaxtyping import jaxtyped
from torch import nn
from torch.nn import functional as F

from unstuck.lm.activations import ACTIVATIONS, gain
from unstuck.lm.errors import LmError
from unstuck.lm.model import INITS, NORMS, CharMLP, ModelConfig, build_model

NAMES = ModelConfig(symbols=27)


def build(config: ModelConfig = NAMES, seed: int = 0) -> CharMLP:
    return build_model(config, torch.Generator().manual_seed(seed))


def contexts(count: int, context: int = 3) -> torch.Tensor:
    return torch.randint(27, (count, context), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("context", [1, 5])
def test_the_shapes_are_those_of_the_annotations(norm: str, depth: int, context: int) -> None:
    model = build(replace(NAMES, norm=norm, depth=depth, context=context, hidden=8))
    x = contexts(16, context)
    with jaxtyped("context"):  # type: ignore[no-untyped-call]
        hints = get_type_hints(CharMLP.forward)
        assert isinstance(x, hints["contexts"])
        assert isinstance(model(x), hints["return"])
    assert model(x).shape == (16, 27)


def test_the_lecture_s_model_has_its_number_of_parameters() -> None:
    assert sum(p.numel() for p in build().parameters()) == 12_097


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_layer_before_a_norm_has_no_bias(norm: str) -> None:
    model = build(replace(NAMES, norm=norm, depth=2))
    assert [layer.linear.bias is None for layer in model.layers] == [norm != "none"] * 2
    assert model.output.bias is not None
    assert {type(layer.norm) for layer in model.layers} == {
        {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[norm]
    }


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_one_that_runs(name: str) -> None:
    model = build(replace(NAMES, activation=name, norm="none"))
    layer = model.layers[0]
    x = model.embed(contexts(4))
    torch.testing.assert_close(layer(x), ACTIVATIONS[name]()(F.linear(x, layer.linear.weight, layer.linear.bias)))


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_the_initial_scales_are_those_documented(init: str, name: str) -> None:
    model = build(replace(NAMES, init=init, activation=name, norm="none", depth=2, embedding=20, hidden=400))
    scaled = {"fan-in": 1.0, "kaiming": gain(name)}
    for layer, fan_in in zip(model.layers, (60, 400), strict=True):
        expected = scaled[init] / math.sqrt(fan_in) if init in scaled else 1.0
        assert layer.linear.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert layer.linear.bias.std().item() == pytest.approx(0.0 if init in scaled else 1.0, abs=0.1)
    assert model.output.weight.std().item() == pytest.approx(1.0 if init == "naive" else 0.01, rel=0.03)
    assert model.output.bias.any().item() == (init == "naive")
    assert model.embedding.weight.std().item() == pytest.approx(1, rel=0.15)


def test_a_naive_start_is_confidently_wrong_and_the_others_start_at_ln_27() -> None:
    x, y = contexts(2000), torch.arange(2000) % 27
    with torch.no_grad():
        losses = {i: F.cross_entropy(build(replace(NAMES, init=i, norm="none"))(x), y).item() for i in INITS}
    assert losses["naive"] > 10
    assert all(losses[i] == pytest.approx(math.log(27), abs=0.1) for i in INITS if i != "naive")


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_starts_as_a_plain_standardisation(norm: str) -> None:
    state = build(replace(NAMES, norm=norm)).state_dict()
    assert state["hidden.0.norm.weight"].eq(1).all()
    assert state["hidden.0.norm.bias"].eq(0).all()
    if norm == "batch":
        assert state["hidden.0.norm.running_mean"].eq(0).all()
        assert state["hidden.0.norm.running_var"].eq(1).all()


def test_the_seed_fixes_the_model_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = build(seed=1), build(seed=1), build(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.output.weight, other.output.weight)


def test_batch_mates_change_an_output_in_training_and_not_in_evaluation() -> None:
    model = build(replace(NAMES, init="fan-in"))
    x = contexts(8)
    with torch.no_grad():
        assert not torch.allclose(model(x)[:4], model(x[:4]), atol=1e-6)
        model.eval()
        torch.testing.assert_close(model(x)[:4], model(x[:4]))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("symbols", 1, "symbols is 1: give a whole number from 2 to 1114113"),
        ("hidden", 0, "hidden is 0: give a whole number from 1 to 65536"),
        ("embedding", -3, "embedding is -3: give a whole number from 1 to 65536"),
        ("depth", 1001, "depth is 1001: give a whole number from 1 to 1000"),
        ("context", 0, "context is 0: give a whole number from 1 to 256"),
        ("init", "xavier", "unknown init 'xavier': choose one of naive, small-output, fan-in, kaiming"),
        ("norm", "group", "unknown norm 'group': choose one of none, batch, layer"),
    ],
)
def test_values_that_cannot_be_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(LmError) as caught:
        replace(NAMES, **{option: value})
    assert str(caught.value) == message
