"""Trains a model by hand, and counts with plain forward hooks what a forward pass runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import activations as transformers_activations
from transformers.pytorch_utils import Conv1D

from third_party.architectures import Architecture, Batch

Prepare = Callable[[nn.Module], object]
STEPS = 20
WEIGHTS = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Embedding)
ACTIVATION_HOMES = ("torch.nn.modules.activation", transformers_activations.__name__)


@dataclass
class Passage:
    """What one module made in one forward pass: number of calls, elements, and the sum of their squares."""

    calls: int = 0
    elements: int = 0
    squares: float = 0.0
    plain: bool = True  # the module's class is one of the known ones, so that its output is the layer's

    def add(self, output: Tensor) -> None:
        self.calls += 1
        self.elements += output.numel()
        self.squares += float(output.detach().double().square().sum())

    @property
    def rms(self) -> float:
        return (self.squares / self.elements) ** 0.5


@dataclass
class Training:
    """What a training gave: losses, final parameters, and the scale of each gradient and update by step."""

    losses: list[float] = field(default_factory=list)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    updates: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))


def batches(architecture: Architecture) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [architecture.batch(generator) for _ in range(4)]


def made(architecture: Architecture, prepare: Prepare = id) -> nn.Module:
    """Make the model in training mode, its random weights and dropout from a fixed seed."""
    torch.manual_seed(0)
    model = architecture.make()
    model.train()
    prepare(model)
    return model


def train(architecture: Architecture, prepare: Prepare = id, *, measure: bool = False) -> Training:
    """Train by hand with AdamW; with `measure` also note the rms of gradients and updates."""
    model, result = made(architecture, prepare), Training()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    data = batches(architecture)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(**data[step % len(data)], **architecture.options).loss
        loss.backward()
        before = {name: p.detach().clone() for name, p in model.named_parameters()} if measure else {}
        optimizer.step()
        result.losses.append(loss.item())
        for name, parameter in model.named_parameters() if measure else ():
            if parameter.grad is not None:
                result.gradients[name][step] = rms(parameter.grad)
                result.updates[name][step] = rms(parameter.detach() - before[name])
    result.parameters = {name: p.detach() for name, p in model.named_parameters()}
    return result


def rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())


def is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    return home in ACTIVATION_HOMES and not isinstance(module, nn.MultiheadAttention | nn.Softmax)


def hooked(architecture: Architecture) -> tuple[dict[str, Passage], dict[str, Passage]]:
    """Return (weight layers, activations) by module name, as plain hooks see them in the first forward pass."""
    model = made(architecture)
    weights: dict[str, Passage] = defaultdict(Passage)
    activations: dict[str, Passage] = defaultdict(Passage)
    for name, module in model.named_modules():
        if isinstance(module, WEIGHTS):
            weights[name].plain = type(module) in WEIGHTS
            module.register_forward_hook(lambda _module, _args, out, seen=weights[name]: seen.add(out))
        elif is_activation(module):
            module.register_forward_hook(lambda _module, _args, out, seen=activations[name]: seen.add(out))
    model(**batches(architecture)[0], **architecture.options)
    return _called(weights), _called(activations)


def _called(seen: dict[str, Passage]) -> dict[str, Passage]:
    return {name: passage for name, passage in seen.items() if passage.calls}


def counted(seen: dict[str, Passage], by_hand: tuple[str, ...]) -> Counter[str]:
    """Return how many sites each path must have."""
    return Counter([*seen, *by_hand])
