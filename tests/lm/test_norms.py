from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from unstuck.lm import norms
from unstuck.lm.activations import ACTIVATIONS
from unstuck.lm.examples import Corpus
from unstuck.lm.model import NORMS, CharMLP
from unstuck.lm.norms import fold, recalibrate
from unstuck.lm.train import Run, train


@pytest.fixture
def trained(new_run: Callable[..., Run]) -> Callable[..., CharMLP]:
    def make(**options: object) -> CharMLP:
        run = new_run(steps=40, **options)
        train(run)
        return run.model

    return make


def naive_moments(model: CharMLP, contexts: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every layer's mean and variance in float64 over all examples at once, each standardised before the next."""
    model = copy.deepcopy(model).double()
    x, moments = model.embed(contexts), []
    for layer in model.layers:
        x = layer.linear(x)
        mean, variance = x.mean(0), x.var(0)
        moments.append((mean, variance))
        x = (x - mean) / torch.sqrt(variance + layer.norm.eps) * layer.norm.weight + layer.norm.bias
        x = layer.activation(x)
    return moments


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("chunk", [7, 10**6])
def test_recalibration_is_exact_layer_by_layer(
    trained: Callable[..., CharMLP], corpus: Corpus, monkeypatch: pytest.MonkeyPatch, depth: int, chunk: int
) -> None:
    model, contexts = trained(depth=depth), corpus.train.contexts[:1001]
    monkeypatch.setattr(norms, "CHUNK", chunk)
    with torch.no_grad():
        recalibrate(model, contexts)
        moments = naive_moments(model, contexts)
    for layer, (mean, variance) in zip(model.layers, moments, strict=True):
        torch.testing.assert_close(layer.norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)


def test_recalibration_changes_the_running_statistics_only(trained: Callable[..., CharMLP], corpus: Corpus) -> None:
    model = trained(depth=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate(model, corpus.train.contexts)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"hidden.{k}.norm.running_{s}" for k in (0, 1) for s in ("mean", "var")}
    assert model.training


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_recalibration_leaves_a_model_without_batch_norm_alone(
    trained: Callable[..., CharMLP], corpus: Corpus, norm: str
) -> None:
    model = trained(norm=norm)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recalibrate(model, corpus.train.contexts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_folded_model_is_the_same_function_in_evaluation(
    trained: Callable[..., CharMLP], corpus: Corpus, norm: str, depth: int, activation: str
) -> None:
    model = trained(norm=norm, depth=depth, activation=activation, lr=0.01)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        difference = (model(corpus.val.contexts) - folded(corpus.val.contexts)).abs().max().item()
    assert difference < 1e-5
    assert not any("running" in name for name in folded.state_dict())


def test_a_folded_residual_model_is_the_same_function(trained: Callable[..., CharMLP], corpus: Corpus) -> None:
    model = trained(depth=4, residual=True).eval()
    with torch.no_grad():
        difference = (model(corpus.val.contexts) - fold(model)(corpus.val.contexts)).abs().max().item()
    assert difference < 1e-5


@pytest.mark.parametrize("momentum", [0.001, 0.1, 1.0])
def test_batch_norm_in_training_is_the_formula_with_torch_s_momentum_and_eps(
    new_run: Callable[..., Run], corpus: Corpus, momentum: float
) -> None:
    """y = γ (x - μ) / √(σ² + ε) + β with the biased σ²; running ← (1 - m) · running + m · batch, its σ² unbiased."""
    model = new_run(norm_momentum=momentum).model
    layer, contexts = model.layers[0], corpus.train.contexts[:64]
    norm = layer.norm
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
        x = layer.linear(model.embed(contexts))
        mean, biased, unbiased = x.mean(0), x.var(0, correction=0), x.var(0, correction=1)
        expected = norm.weight * (x - mean) / torch.sqrt(biased + 1e-5) + norm.bias
        torch.testing.assert_close(layer.pre_activation(model.embed(contexts)), expected)
        torch.testing.assert_close(norm.running_mean, momentum * mean)
        torch.testing.assert_close(norm.running_var, (1 - momentum) + momentum * unbiased)
        before = norm.running_mean.clone()
        model.eval()
        shown = layer.pre_activation(model.embed(contexts))
        expected = norm.weight * (x - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5) + norm.bias
        torch.testing.assert_close(shown, expected)
        assert torch.equal(norm.running_mean, before)
