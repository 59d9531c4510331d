"""break-symmetry: draw the weights of units that are copies of each other anew, at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy
from unstuck.trace import Kind, Site, Trace


def draw(weight: Tensor, fan_in: int, gain: float, generator: torch.Generator) -> float:
    """Fill `weight` (any shape) in place with normal numbers of standard deviation gain / √fan_in, and return that.

    Drawn on the CPU, so that all devices get the same. Raises ValueError when the fan-in or the gain is not positive.
    """
    if fan_in < 1 or gain <= 0:
        raise ValueError(f"cannot draw weights for fan-in {fan_in} and gain {gain}")
    std = gain / math.sqrt(fan_in)
    weight.data.copy_(std * torch.randn(weight.shape, generator=generator))
    return std


class BreakSymmetry(Remedy):
    """Draw the weights of a layer whose units are all alike anew, so that they can learn different things.

    ## What it does
    Replaces the layer's weights by normal random numbers with standard deviation gain / √fan_in, where the gain is that
    of the function seen to follow (1 for none). Biases stay. In flight the training goes back to where it began, as
    nothing that was learned with equal units is worth keeping. The numbers come from a generator with a fixed seed.

    ## When it must not be used
    On loaded weights, on weights shared with another layer or frozen: all refused. Layers that start at zero on purpose
    (the last layer of a residual branch, the second factor of LoRA) get different gradients and are not found.

    ## References
    Deep Learning, section 8.4, https://www.deeplearningbook.org/contents/optimization.html; He et al. 2015,
    https://arxiv.org/abs/1502.01852
    """

    name = "break-symmetry"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Draw the layer's weights anew."""
        layer = patient.layer(finding)
        patient.rewind()
        gain, fan_in = gain_after(patient.trace, layer.site), layer.site.fan_in or 1
        std = draw(layer.weight, fan_in, gain, patient.generator)
        patient.forget_moments(layer.weight)
        name = layer.named_weight[0]
        return [
            self.fix(
                finding,
                site=name,
                statistic="units with the weights of another one",
                after=0.0,
                snippet=f"torch.nn.init.normal_({snippet.parameter(patient.trace, name)}, std={std:.4g})",
                step=patient.step,
            )
        ]


def gain_after(trace: Trace, layer: Site) -> float:
    """Return the initialisation gain of the activation function that follows a layer; 1 where none does."""
    gains = [s.gain for s in trace.consumers(layer, direct=False) if s.kind is Kind.ACTIVATION and s.gain]
    return gains[0] if gains else 1.0
