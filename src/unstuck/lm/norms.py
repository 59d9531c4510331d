"""BatchNorm after training: measuring its statistics exactly, and folding it into the layer before it.

Ioffe & Szegedy 2015 (https://arxiv.org/abs/1502.03167), algorithm 2: for inference the batch statistics give way to
those of the whole training set, and the norm becomes an affine map, which the linear layer before it can absorb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from unstuck.lm.model import CharMLP, CharModel, HiddenLayer, blank_model

CHUNK = 16_384


class Contexts(Protocol):
    """Contexts (N, T) int64, sliced as they are needed: a tensor, or windows of a stream."""

    def __len__(self) -> int:
        """Number of contexts."""
        ...

    def __getitem__(self, part: slice, /) -> Tensor:
        """Some contexts in a row."""
        ...


@torch.no_grad()
def recalibrate(model: CharModel, contexts: Contexts) -> None:
    """Set every BatchNorm's running mean and variance to the exact ones over all `contexts`, in place.

    Bottom up, one pass a layer: a layer's inputs depend on the statistics of those below it, so these must be
    final first. The variance is the unbiased one (divisor N - 1), as `nn.BatchNorm1d` keeps it; sums are float64.
    Nothing is done to a model without BatchNorm; the mode (training or evaluation) is left as it was.
    """
    if not isinstance(model, CharMLP) or model.config.norm != "batch":
        return
    was_training = model.training
    model.eval()
    for place, layer in enumerate(model.layers):
        mean, variance = _moments(layer.linear(x) for x in _inputs(model, place, contexts))
        _, running_mean, running_var = _batch_norm(layer)
        running_mean.copy_(mean)
        running_var.copy_(variance)
    model.train(was_training)


def _inputs(model: CharMLP, place: int, contexts: Contexts) -> Iterator[Tensor]:
    """What hidden layer `place` is given, chunk by chunk."""
    for first in range(0, len(contexts), CHUNK):
        x = model.embed(contexts[first : first + CHUNK])
        for layer in model.layers[:place]:
            x = layer(x)
        yield x


def _moments(chunks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of the rows of all chunks, merging counts, means and squared deviations."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for chunk in chunks:
        x = chunk.double()  # (B, H)
        n, centre = len(x), x.mean(0)
        shift = centre - mean
        total = count + n
        squares = squares + (x - centre).square().sum(0) + shift.square() * (count * n / total)
        mean = mean + shift * (n / total)
        count = total
    return mean, squares / max(count - 1, 1)


def _batch_norm(layer: HiddenLayer) -> tuple[nn.BatchNorm1d, Tensor, Tensor]:
    """The layer's BatchNorm with its running mean and variance."""
    norm = layer.norm
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm, norm.running_mean, norm.running_var


@torch.no_grad()
def fold(model: CharModel) -> CharModel:
    """The same function in evaluation mode, without BatchNorm: a new model; the given one is left alone.

    W' = W · γ/√(σ² + ε) row by row, b' = β - μ · γ/√(σ² + ε). A LayerNorm depends on each example, so it stays.
    """
    if not isinstance(model, CharMLP) or model.config.norm != "batch":
        copy = blank_model(model.config)
        copy.load_state_dict(model.state_dict())
        copy.eval()
        return copy
    folded = blank_model(replace(model.config, norm="none"))
    assert isinstance(folded, CharMLP)
    folded.embedding.load_state_dict(model.embedding.state_dict())
    folded.output.load_state_dict(model.output.state_dict())
    for old, new in zip(model.layers, folded.layers, strict=True):
        norm, running_mean, running_var = _batch_norm(old)
        scale = norm.weight / torch.sqrt(running_var + norm.eps)  # (H,)
        new.linear.weight.copy_(old.linear.weight * scale[:, None])
        new.linear.bias.copy_(norm.bias - running_mean * scale)
    return folded.eval()
