"""The character-level MLP: embeddings of the last symbols, hidden layers, logits of the next symbol.

After Bengio et al. 2003 (https://www.jmlr.org/papers/v3/bengio03a.html). Normalisation is `nn.BatchNorm1d` (Ioffe &
Szegedy 2015, https://arxiv.org/abs/1502.03167: batch statistics in training, running ones in evaluation) or
`nn.LayerNorm` (Ba et al. 2016, https://arxiv.org/abs/1607.06450) on the pre-activations; the linear layer before a
norm has no bias, since the norm would subtract it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from unstuck.lm.activations import ACTIVATIONS, activation, gain
from unstuck.lm.errors import require_choice, require_whole
from unstuck.lm.examples import LONGEST_CONTEXT

INITS = ("naive", "small-output", "fan-in", "kaiming")
NORMS = ("none", "batch", "layer")
OUTPUT_SCALE = 0.01


@dataclass(frozen=True)
class ModelConfig:
    """What fixes a model's parameters and their shapes; raises LmError for values that cannot be."""

    symbols: int
    context: int = 3
    embedding: int = 10
    hidden: int = 200
    depth: int = 1
    activation: str = "tanh"
    init: str = "kaiming"
    norm: str = "batch"

    def __post_init__(self) -> None:
        """Check every value."""
        require_whole("symbols", self.symbols, 2, 1_114_113)
        require_whole("context", self.context, 1, LONGEST_CONTEXT)
        require_whole("embedding", self.embedding, 1, 65_536)
        require_whole("hidden", self.hidden, 1, 65_536)
        require_whole("depth", self.depth, 1, 1_000)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("init", self.init, INITS)
        require_choice("norm", self.norm, NORMS)


class HiddenLayer(nn.Module):
    """Linear, norm (if any), activation."""

    linear: nn.Linear
    norm: nn.Module

    def __init__(self, fan_in: int, config: ModelConfig, norm_momentum: float) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, config.hidden, bias=config.norm == "none")
        self.norm = _norm(config, norm_momentum)
        self.activation = activation(config.activation)

    def pre_activation(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B H"]:
        """What the activation is given."""
        normed: Tensor = self.norm(self.linear(x))
        return normed

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B H"]:
        """The layer's activation."""
        active: Tensor = self.activation(self.pre_activation(x))
        return active


class CharMLP(nn.Module):
    """The model; make one by `build_model`, which draws its parameters as the config says."""

    embedding: nn.Embedding
    output: nn.Linear

    def __init__(self, config: ModelConfig, norm_momentum: float = 0.1) -> None:
        super().__init__()
        self.config = config
        fan_ins = [config.context * config.embedding] + [config.hidden] * (config.depth - 1)
        self.embedding = nn.Embedding(config.symbols, config.embedding)
        self.hidden = nn.ModuleList(HiddenLayer(fan_in, config, norm_momentum) for fan_in in fan_ins)
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


def _norm(config: ModelConfig, momentum: float) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm1d(config.hidden, momentum=momentum)
    return nn.LayerNorm(config.hidden) if config.norm == "layer" else nn.Identity()


def blank_model(config: ModelConfig, norm_momentum: float = 0.1) -> CharMLP:
    """A model whose parameters and buffers hold anything, to be filled; draws no random numbers."""
    with torch.device("meta"):
        model = CharMLP(config, norm_momentum)
    return model.to_empty(device="cpu")


def build_model(config: ModelConfig, generator: torch.Generator, norm_momentum: float = 0.1) -> CharMLP:
    """A new model, initialised by `initialise`. Only `generator` is drawn from, never torch's global one."""
    model = blank_model(config, norm_momentum)
    initialise(model, generator)
    return model


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
