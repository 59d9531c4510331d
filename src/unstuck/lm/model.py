"""The kinds of model by name: how one is made, blank or initialised."""

from __future__ import annotations

import torch

from unstuck.lm.config import INITS, KINDS, NORMS, ModelConfig
from unstuck.lm.gru import CharGRU
from unstuck.lm.mlp import OUTPUT_SCALE, CharMLP, HiddenLayer, hidden_std, initialise
from unstuck.lm.transformer import CharTransformer

__all__ = [
    "INITS",
    "KINDS",
    "NORMS",
    "OUTPUT_SCALE",
    "CharGRU",
    "CharMLP",
    "CharModel",
    "CharTransformer",
    "HiddenLayer",
    "ModelConfig",
    "blank_model",
    "build_model",
    "hidden_std",
    "initialise",
]

CharModel = CharMLP | CharGRU | CharTransformer


def blank_model(config: ModelConfig, norm_momentum: float = 0.1) -> CharModel:
    """A model whose parameters and buffers hold anything, to be filled; draws no random numbers."""
    return meta_model(config, norm_momentum).to_empty(device="cpu")


def meta_model(config: ModelConfig, norm_momentum: float = 0.1) -> CharModel:
    """A model of shapes alone, which takes no memory."""
    with torch.device("meta"):
        if config.kind == "gru":
            return CharGRU(config)
        return CharTransformer(config) if config.kind == "transformer" else CharMLP(config, norm_momentum)


def build_model(config: ModelConfig, generator: torch.Generator, norm_momentum: float = 0.1) -> CharModel:
    """A new model, initialised as its config says. Only `generator` is drawn from, never torch's global one."""
    model = blank_model(config, norm_momentum)
    model.initialise(generator)
    return model
