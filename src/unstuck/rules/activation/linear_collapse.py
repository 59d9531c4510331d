"""A004. After Goodfellow et al., Deep Learning, section 6.4, https://www.deeplearningbook.org/contents/mlp.html."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Edge, Kind, Signal, Site, Trace

MIN_BETWEEN = 1  # nonlinear functions between two weight layers


class Shape(NamedTuple):
    """A linear map or convolution: features in and out, and the kernel's size (empty for linear maps)."""

    inputs: int
    units: int
    kernel: tuple[int, ...]


class LinearCollapse(Rule):
    """Two weight layers follow each other with nothing nonlinear in between.

    ## What it does
    Fires where the output of a weight layer goes, through views and dropout at most, into other weight layers and
    nowhere else, and the width between the two is no bottleneck.

    ## Why is this bad
    The product of two linear maps is a linear map: the two layers can represent what one of them could, at the price
    of more parameters and a worse conditioned problem. The depth that was meant to be there is not.

    ## Evidence
    The widths before, between and after the two layers. That nothing nonlinear stands between them is read from the
    graph: there is no threshold to set.

    ## Stays silent on
    Low-rank factorisations (narrower between than on both sides: LoRA, bottlenecks, linear codes); value and output
    projections of attention; depthwise and separable convolutions; a layer before a norm; a layer whose output is used
    elsewhere too (a residual stream, a penalty); frozen layers; one matrix applied twice; anything but views and
    dropout in between, also where it is linear (pooling).

    ## Example
        nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 64))

    ## Fix
    Put the activation function in, or drop one of the layers.

    ## References
    - Deep Learning, section 6.4, https://www.deeplearningbook.org/contents/mlp.html
    - LoRA: Low-Rank Adaptation of Large Language Models, https://arxiv.org/abs/2106.09685
    """

    code = "A004"
    name = "linear-collapse"
    stage = Stage.ACTIVATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS)
    explains = ("A007", "L013")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight layer that feeds another one directly; each is named once."""
        for first in trace.of_kind(Kind.WEIGHT_LAYER):
            if not _feeds_only_layers(trace, first):
                continue
            for second in trace.consumers(first):
                widths = _collapse(trace, first, second)
                if widths is not None:
                    yield self._report(trace, first, second, widths)
                    break

    def _report(self, trace: Trace, first: Site, second: Site, widths: tuple[int, int, int]) -> Finding:
        steps = trace.steps or [0]
        inputs, between, outputs = widths
        return self.finding(
            first,
            steps=(steps[0], steps[-1]),
            measured=0.0,
            threshold=float(MIN_BETWEEN),
            unit="functions",
            message=(
                f"{first.label} feeds {second.label} with nothing nonlinear in between: of widths {inputs} → {between} "
                f"→ {outputs}, one layer {inputs} → {outputs} can do the same"
            ),
            evidence=(
                Evidence("width before", float(inputs), "features"),
                Evidence("width between", float(between), "features"),
                Evidence("width after", float(outputs), "features"),
            ),
            related=(second,),
        )


def _feeds_only_layers(trace: Trace, layer: Site) -> bool:
    """Tell whether all that takes a layer's output are weight layers, and take it as it is (or after dropout)."""
    consumers = trace.consumers(layer, direct=False)
    kinds = {site.kind for site in consumers}
    indirect = any(Edge(layer.index, site.index, direct=False) in trace.edges for site in consumers)
    return Kind.WEIGHT_LAYER in kinds and kinds <= {Kind.WEIGHT_LAYER, Kind.DROPOUT} and not indirect


def _collapse(trace: Trace, first: Site, second: Site) -> tuple[int, int, int] | None:
    """Return the widths before, between and after two layers that one could replace, or None."""
    before, after = _shape(trace, first), _shape(trace, second)
    if second.kind is not Kind.WEIGHT_LAYER or before is None or after is None or before.units != after.inputs:
        return None
    if set(first.parameters) & set(second.parameters) or _feeds_attention(trace, second):
        return None
    depthwise = bool(before.kernel) and before.inputs == 1 < before.units
    if depthwise or _separable(before.kernel, after.kernel) or before.units < min(before.inputs, after.units):
        return None
    return before.inputs, before.units, after.units


def _shape(trace: Trace, layer: Site) -> Shape | None:
    """Return the shape of a layer with one trainable weight, else None."""
    weights = [p for p in trace.parameters_of(layer) if p.slot == "weight"]
    if len(weights) != 1 or not weights[0].requires_grad or not layer.fan_in or len(weights[0].shape) < 2:
        return None
    kernel = weights[0].shape[2:] if layer.op.startswith("conv") else ()
    inputs = layer.fan_in // max(1, math.prod(kernel))
    return Shape(inputs, math.prod(weights[0].shape) // layer.fan_in, tuple(kernel))


def _separable(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Tell whether two kernels each extend where the other does not, such as 3x1 and 1x3."""
    pairs = list(zip(first, second, strict=False))
    return any(a > 1 == b for a, b in pairs) and any(b > 1 == a for a, b in pairs)


def _feeds_attention(trace: Trace, layer: Site) -> bool:
    consumers = trace.consumers(layer, direct=False)
    scores = any(
        site.kind is Kind.SOFTMAX and Edge(layer.index, site.index, direct=False) in trace.edges for site in consumers
    )
    return scores or any(site.kind is Kind.ATTENTION for site in consumers)
