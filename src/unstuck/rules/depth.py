"""How the scale of the signal changes with depth, over chains of weight layers; for I003 and I004.

After He et al. 2015, section 2.2, https://arxiv.org/abs/1502.01852: the variance of a layer's outputs is a product over
the layers before it, so its logarithm is a line over depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.rules.graph import Graph
from unstuck.trace import Kind, Role, Site, Trace

MIN_LAYERS = 4  # weight layers in a row; a slope through fewer says little
RESETS = frozenset({Kind.NORM, Kind.ATTENTION, Kind.SOFTMAX, Kind.RECURRENT, Kind.CUSTOM})
"""What gives the signal a scale of its own, whatever came before."""


@dataclass(frozen=True)
class Chain:
    """Weight layers that feed each other, and the standard deviations of their outputs at the start.

    `slope` is that of the least-squares line through log10(std) over depth, in decades per layer.
    """

    layers: tuple[Site, ...]
    stds: tuple[float, ...]

    @property
    def slope(self) -> float:
        """The depth slope."""
        return float(np.polyfit(np.arange(len(self.stds)), np.log10(self.stds), 1)[0])

    @property
    def growth(self) -> float:
        """How many times larger the last layer's standard deviation is than the first's."""
        return self.stds[-1] / self.stds[0]


def chains(trace: Trace) -> Iterator[Chain]:
    """Yield the chains of four hidden weight layers or more, each feeding the next, with no norm in between.

    Layers with a path around them (residual connections, loops), layers that feed a norm and layers with the weights
    of a later one (recurrence) are left out. Each layer is in one chain.
    """
    graph, plain = Graph(trace), Graph(trace, without=RESETS)
    layers = {site.index: site for site in trace.of_kind(Kind.WEIGHT_LAYER) if _belongs(trace, graph, site)}
    stds = {index: _std(trace, site) for index, site in layers.items()}
    covered: set[int] = set()
    for end in reversed(layers.values()):
        if end.index in covered:
            continue
        chain, used = [end], set(end.parameters)
        while above := [index for index in layers if index in plain.upstream(chain[-1].index)]:
            chain.append(layers[above[-1]])
        fresh = []
        for layer in chain:
            if layer is end or not used & set(layer.parameters):
                fresh.append(layer)
            used |= set(layer.parameters)
        covered.update(layer.index for layer in chain)
        points = [(layer, stds[layer.index]) for layer in reversed(fresh) if stds[layer.index] > 0]
        if len(points) >= MIN_LAYERS:
            yield Chain(tuple(layer for layer, _ in points), tuple(std for _, std in points))


def _belongs(trace: Trace, graph: Graph, layer: Site) -> bool:
    normed = any(site.kind is Kind.NORM for site in trace.consumers(layer, direct=False))
    return not (normed or graph.is_output_layer(layer) or graph.bypassed(layer))


def _std(trace: Trace, layer: Site) -> float:
    """Return the standard deviation of a layer's output at step 0; 0 where it is unknown or not finite."""
    output = trace.summary(layer, Role.OUTPUT, 0)
    return output.std if output is not None and not output.nonfinite and math.isfinite(output.std) else 0.0
