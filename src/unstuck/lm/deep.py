"""The lecture's deep network under six initialisations, and what its four diagnostic plots show, as numbers.

Karpathy 2022, Building makemore part 3 (https://github.com/karpathy/nn-zero-to-hero): six weight layers, tanh after
five of them, 100 units each; hidden weights N(0, gain²/fan_in), output weights (with BatchNorm: its scale) × 0.1. A
tanh shrinks what it is given, and 5/3 is the gain that makes up for it: 1 lets the signal fade from layer to layer, 3
drives the units into saturation. With BatchNorm the gain changes nothing but the size of updates beside their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstuck.lm.data import WordList
from unstuck.lm.errors import require_whole
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.stages import BLOCK, CONTEXT, EMBEDDING, FAN_IN, RATE, batches, split_by

WIDTH, LAYERS = 100, 6
GAINS = {"1": 1.0, "5/3": 5 / 3, "3": 3.0}
OUTPUT_SCALE = 0.1
SATURATED = 0.97  # |tanh| above this, as the lecture counts here
STEPS = 1_000
LAST = 100  # steps over which update-to-data is averaged
BINS = 30

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """One weight layer's numbers: the first four at step 0, NaN for the output layer where they are of its tanh.

    `saturated` is a share; `grad_to_data` is std(gradient) / std(weights), `update_to_data` the mean over the last 100
    steps of log10(rate · std(gradient) / std(weights)).
    """

    saturated: float
    activation_std: float
    gradient_std: float
    grad_to_data: float
    update_to_data: float


@dataclass(frozen=True)
class Histogram:
    """A layer's values at step 0: bin edges (B + 1,) and densities (B,)."""

    edges: Floats
    density: Floats


@dataclass(frozen=True)
class DeepRun:
    """One initialisation: its layers from the input on, three histograms a layer, log10 update-to-data (S, 6)."""

    gain: str
    norm: bool
    layers: list[Layer]
    histograms: dict[str, list[Histogram]]
    updates: Floats

    @property
    def title(self) -> str:
        """What to call it."""
        return f"gain {self.gain}{', BatchNorm' if self.norm else ''}"


def run_deep(
    words: WordList, steps: int = STEPS, seed: int = 0, on_run: Callable[[str], object] = lambda _: None
) -> list[DeepRun]:
    """All six runs on the training part of `words`; `on_run` is told the title of each before it starts.

    The lecture's list is split by line, as the lecture does, any other by distinct word.

    Raises LmError for a number of steps that is not in 1 … 1,000,000, and for words that cannot be split.
    """
    require_whole("--steps", steps, 1, 1_000_000)
    corpus = build_corpus(words, CONTEXT, split_by(words.words))
    runs = []
    for norm, gain in product((False, True), GAINS):
        on_run(f"gain {gain}{', BatchNorm' if norm else ''}")
        runs.append(_run(corpus, gain, norm, steps, seed))
    return runs


def build(symbols: int, gain: float, norm: bool, generator: torch.Generator) -> nn.Sequential:
    """Embedding, then linear layer (BatchNorm) tanh five times, then the output layer (BatchNorm).

    The draws depend on the generator alone, not on `gain` or `norm`.
    """
    parts: list[nn.Module] = [nn.Embedding(symbols, EMBEDDING), nn.Flatten()]
    fan_in = FAN_IN
    for place in range(LAYERS):
        last = place == LAYERS - 1
        linear = nn.Linear(fan_in, symbols if last else WIDTH, bias=not norm)
        parts += [linear, *([nn.BatchNorm1d(linear.out_features)] if norm else []), *([] if last else [nn.Tanh()])]
        fan_in = WIDTH
    model = nn.Sequential(*parts)
    _initialise(model, gain, norm, generator)
    return model


@torch.no_grad()
def _initialise(model: nn.Sequential, gain: float, norm: bool, generator: torch.Generator) -> None:
    embedding, weights = model[0].weight, _weights(model)
    nn.init.normal_(embedding, generator=generator)  # type: ignore[arg-type]
    for weight in weights:
        nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1]), generator=generator)
    for weight in weights[:-1]:
        weight.mul_(gain)
    for part in model:
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
    output = model[-1].weight if norm else weights[-1]
    output.mul_(OUTPUT_SCALE)  # type: ignore[operator]


def _weights(model: nn.Sequential) -> list[Tensor]:
    return [part.weight for part in model if isinstance(part, nn.Linear)]


def _run(corpus: Corpus, gain: str, norm: bool, steps: int, seed: int) -> DeepRun:
    model = build(len(corpus.vocabulary), GAINS[gain], norm, torch.Generator().manual_seed(seed))
    parameters, weights = list(model.parameters()), _weights(model)
    ratios: list[list[float]] = []
    for step in range(steps):
        if step % BLOCK == 0:
            drawn = torch.from_numpy(batches(seed, step // BLOCK, len(corpus.train))).long()
        batch = drawn[step % BLOCK]
        active = _backward(model, corpus.train.contexts[batch], corpus.train.targets[batch])
        ratios.append([float(_gradient(weight).std() / weight.detach().std()) for weight in weights])
        if step == 0:
            seen = [(a.detach(), _gradient(a)) for a in active]
            gradients = [_gradient(weight).clone() for weight in weights]
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(_gradient(parameter), alpha=RATE)
    with np.errstate(divide="ignore"):
        updates = np.log10(RATE * np.array(ratios))
    layers = [_layer(seen[k] if k < len(seen) else None, ratios[0][k], updates[-LAST:, k]) for k in range(LAYERS)]
    histograms = {
        "activations": [_histogram(a) for a, _ in seen],
        "gradients": [_histogram(g) for _, g in seen],
        "weight gradients": [_histogram(g) for g in gradients],
    }
    return DeepRun(gain, norm, layers, histograms, updates)


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def _backward(model: nn.Sequential, contexts: Tensor, targets: Tensor) -> list[Tensor]:
    """One step's gradients, in the parameters and in the tanh layers' outputs, which are returned."""
    model.zero_grad()
    x, active = contexts, []
    for part in model:
        x = part(x)
        if isinstance(part, nn.Tanh):
            x.retain_grad()
            active.append(x)
    F.cross_entropy(x, targets).backward()  # type: ignore[no-untyped-call]
    return active


def _layer(seen: tuple[Tensor, Tensor] | None, ratio: float, updates: Floats) -> Layer:
    of_tanh = (math.nan, math.nan, math.nan)
    if seen is not None:
        active, gradient = seen
        of_tanh = (float((active.abs() > SATURATED).float().mean()), float(active.std()), float(gradient.std()))
    return Layer(*of_tanh, ratio, float(updates.mean()))


def _histogram(values: Tensor) -> Histogram:
    density, edges = np.histogram(values.numpy().ravel(), BINS, density=True)
    return Histogram(edges, density)


def deep_table(runs: list[DeepRun]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row a layer of each run."""
    header = [
        "initialisation",
        "layer",
        "saturated",
        "activation std",
        "gradient std",
        "grad:data",
        "log10 update:data",
    ]
    rows = []
    for run in runs:
        for number, layer in enumerate(run.layers, 1):
            output = math.isnan(layer.saturated)
            cells = ["–"] * 3
            if not output:
                cells = [f"{layer.saturated:.1%}", f"{layer.activation_std:.3f}", f"{layer.gradient_std:.2e}"]
            name = "output" if output else str(number)
            rows.append([run.title, name, *cells, f"{layer.grad_to_data:.2e}", f"{layer.update_to_data:+.2f}"])
    return header, rows
