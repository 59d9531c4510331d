"""Two other ways to mend an initialisation, to compare the remedies with: run a script with one of them.

    python -m zoo.alternatives SCRIPT --how kaiming|lsuv

Each weight layer is drawn anew in the first pass, in execution order; nothing is judged and nothing else is changed.
`kaiming`: He et al. 2015, https://arxiv.org/abs/1502.01852, normal weights with the gain of the function that follows,
zero biases. `lsuv`: Mishkin & Matas 2016, algorithm 1, https://arxiv.org/abs/1511.06422, orthonormal weights, then
divided by the standard deviation of the layer's output until that is within 0.1 of 1, at most ten times.
The script prints what it prints. Layers whose weights another layer uses too are left alone, as are frozen ones.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.capture.functions import Activation
from unstuck.capture.graph import Replay
from unstuck.capture.intervention import Handover, LayerOutput
from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program
from unstuck.capture.session import Session
from unstuck.trace import Trace

TOLERANCE = 0.1  # of the output's variance, as in the paper
MAX_TIMES = 10
SEED = 0  # of a generator of our own, so that the script draws what it would have drawn


class How(StrEnum):
    """A way to draw the weights."""

    KAIMING = "kaiming"
    LSUV = "lsuv"


class Initialiser:
    """Draws every weight layer anew in the first pass; the sites of those it has drawn are in `drawn`.

    A layer's own function is known only when that is about to run: Kaiming's gain is multiplied in then.
    """

    def __init__(self, how: How) -> None:
        self.how = how
        self.armed = True
        self.drawn: set[int] = set()
        self._generator = torch.Generator().manual_seed(SEED)

    def after_layer(self, output: LayerOutput) -> None:
        """Draw a layer's weights and make its output again."""
        chain, weight = output.chain, output.weight
        if chain is None or not output.sole_use or not weight.requires_grad or output.layer.index in self.drawn:
            return
        self.drawn.add(output.layer.index)
        for bias in output.biases:
            bias.data.zero_()
        if self.how is How.KAIMING:
            std = 1 / math.sqrt(output.layer.fan_in or 1)
            weight.data.copy_(std * torch.randn(weight.shape, generator=self._generator))
            _remake(output.value, chain)
            return
        weight.data.copy_(orthonormal(weight.shape, self._generator))
        unit_variance(weight, output.value, lambda: _remake(output.value, chain))

    def before_activation(self, trace: Trace, handover: Handover, function: Activation) -> Tensor | None:  # noqa: ARG002
        """Multiply Kaiming's gain in, and zero biases that were added after the layer."""
        if self.how is How.KAIMING and handover.layer.index in self.drawn:
            handover.weight.data.mul_(function.gain)
        return self._again(handover)

    def before_loss(self, trace: Trace, handover: Handover, *_rest: Any) -> Tensor | None:  # noqa: ARG002
        """Zero the output layer's biases."""
        return self._again(handover)

    def _again(self, handover: Handover) -> Tensor | None:
        if handover.layer.index not in self.drawn:
            return None
        for bias in handover.biases:
            bias.data.zero_()
        value: Tensor = handover.chain.again()
        return value

    def after_first_pass(self, network: Any) -> None:  # noqa: ARG002
        """Nothing more is to be drawn."""
        self.armed = False

    def after_update(self, network: Any, step: int) -> None:
        """Nothing."""


def orthonormal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return a tensor of a shape with orthonormal rows, or columns where it is taller; a vector has norm 1."""
    flat = torch.empty(shape if len(shape) > 1 else (1, *shape))
    nn.init.orthogonal_(flat, generator=generator)
    return flat.reshape(shape)


def unit_variance(weight: Tensor, value: Tensor, remake: Callable[[], None]) -> int:
    """Divide `weight` in place by the std of `value`, which `remake` makes again, until its variance is 1 within 0.1.

    Returns how often, at most ten times; not once where the output has no variance or is not finite.
    """
    remake()
    for times in range(MAX_TIMES):
        variance = float(value.detach().double().var(correction=0))
        if abs(variance - 1) < TOLERANCE or not 0 < variance < math.inf:
            return times
        weight.data.div_(math.sqrt(variance))
        remake()
    return MAX_TIMES


def _remake(value: Tensor, chain: Replay) -> None:
    with torch.no_grad():
        value.data.copy_(chain.again())


def main(arguments: list[str] | None = None) -> int:
    """Run a script with its weights drawn anew; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.alternatives", description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--how", type=How, choices=list(How), required=True)
    options = parser.parse_args(arguments)
    with Session(intervention=Initialiser(options.how)):
        return run_program(read_program(options.script), []).exit_code


if __name__ == "__main__":
    raise SystemExit(main())
