"""The character-level MLP: embeddings of the last symbols, hidden layers, logits of the next symbol.

After Bengio et al. 2003 (https://www.jmlr.org/papers/v3/bengio03a.html). Normalisation is `nn.BatchNorm1d` (Ioffe &
Szegedy 2015, https://arxiv.org/abs/1502.03167: batch statistics in training, running ones in evaluation) or
`nn.LayerNorm` (Ba et al. 2016, https://arxiv.org/abs/1607.06450) on the pre-activations; the linear layer before a
norm has no bias, since the norm would subtract it again. With `residual` the hidden layers from the second on add what
they make to what they are given (He et al. 2015, https://arxiv.org/abs/1512.03385).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from unstuck.lm.activations import activation, gain
from unstuck.lm.config import ModelConfig

OUTPUT_SCALE = 0.01


class HiddenLayer(nn.Module):
    """Linear, norm (if any), activation; where `residual`, added to the layer's input."""

    linear: nn.Linear
    norm: nn.Module

    def __init__(self, fan_in: int, config: ModelConfig, norm_momentum: float, *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.linear = nn.Linear(fan_in, config.hidden, bias=config.norm == "none")
        self.norm = _norm(config, norm_momentum)
        self.activation = activation(config.activation)

    def pre_activation(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B H"]:
        """What the activation is given."""
        normed: Tensor = self.norm(self.linear(x))
        return normed

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B H"]:
        """The layer's output."""
        active: Tensor = self.activation(self.pre_activation(x))
        return x + active if self.residual else active


class CharMLP(nn.Module):
    """The model; make one by `model.build_model`, which draws its parameters as the config says."""

    embedding: nn.Embedding
    output: nn.Linear

    def __init__(self, config: ModelConfig, norm_momentum: float = 0.1) -> None:
        super().__init__()
        self.config = config
        fan_ins = [config.context * config.embedding] + [config.hidden] * (config.depth - 1)
        self.embedding = nn.Embedding(config.symbols, config.embedding)
        self.hidden = nn.ModuleList(
            HiddenLayer(fan_in, config, norm_momentum, residual=config.residual and place > 0)
            for place, fan_in in enumerate(fan_ins)
        )
        self.output = nn.Linear(config.hidden, config.symbols)

    @property
    def layers(self) -> list[HiddenLayer]:
        """The hidden layers, bottom first."""
        return [layer for layer in self.hidden if isinstance(layer, HiddenLayer)]

    def embed(self, contexts: Int64[Tensor, "B T"]) -> Float[Tensor, "B F"]:
        """The embeddings of a context side by side, F = T * C."""
        vectors: Tensor = self.embedding(contexts)  # (B, T, C)
        return vectors.flatten(1)  # (B, T * C)

    def forward(self, contexts: Int64[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Logits of the symbol that follows each context of ids."""
        x = self.embed(contexts)  # (B, T * C)
        for layer in self.hidden:
            x = layer(x)  # (B, H)
        logits: Tensor = self.output(x)  # (B, V)
        return logits

    def next_logits(self, window: Int64[Tensor, "B T"], filled: int) -> Float[Tensor, "B V"]:  # noqa: ARG002
        """Logits of the symbol after a window; the MLP reads the boundaries before a word's start, too."""
        logits: Tensor = self(window)
        return logits

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight anew, as `initialise` says."""
        initialise(self, generator)


def _norm(config: ModelConfig, momentum: float) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm1d(config.hidden, momentum=momentum)
    return nn.LayerNorm(config.hidden) if config.norm == "layer" else nn.Identity()


@torch.no_grad()
def initialise(model: CharMLP, generator: torch.Generator) -> None:
    """Draw every weight anew by `model.config.init`; each choice keeps what the one before it repaired.

    - `naive`: every embedding, weight and bias N(0, 1).
    - `small-output`: naive, but output weights 0.01 · N(0, 1) and output biases 0, so that the logits start near 0
      and the loss near ln V.
    - `fan-in`: small-output, and hidden weights N(0, 1/fan_in), hidden biases 0. fan_in is the number of inputs of a
      unit: T · C for the first hidden layer, H for those above it.
    - `kaiming`: small-output, and hidden weights N(0, gain²/fan_in) with the activation's `gain`, hidden biases 0.

    A norm keeps its own start: scale 1, shift 0.
    """
    config = model.config
    nn.init.normal_(model.embedding.weight, generator=generator)
    for layer in model.layers:
        linear = layer.linear
        nn.init.normal_(linear.weight, std=hidden_std(config, linear.in_features), generator=generator)
        if linear.bias is not None:
            nn.init.normal_(linear.bias, generator=generator)
            if config.init in ("fan-in", "kaiming"):
                linear.bias.zero_()
        if isinstance(layer.norm, nn.BatchNorm1d | nn.LayerNorm):
            layer.norm.reset_parameters()
    nn.init.normal_(model.output.weight, generator=generator)
    nn.init.normal_(model.output.bias, generator=generator)
    if config.init != "naive":
        model.output.weight.mul_(OUTPUT_SCALE)
        model.output.bias.zero_()


def hidden_std(config: ModelConfig, fan_in: int) -> float:
    """Standard deviation of the hidden weights at the start."""
    if config.init == "kaiming":
        return gain(config.activation) / math.sqrt(fan_in)
    return 1 / math.sqrt(fan_in) if config.init == "fan-in" else 1.0
