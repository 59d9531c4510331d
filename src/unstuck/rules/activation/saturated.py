"""A001. After Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import finite, seen_enough, span
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SATURATED = 25.0  # % of a site's elements; tanh at gain 5/3 on N(0, 1) inputs has 21 %, N(0, 1) weights 60 to 75 %
MORE = 1.5  # times the share of N(0, 1) outside the interval; hardtanh after batch normalisation has 32 %, and trains


class Saturated(Rule):
    """Much of what enters a tanh- or sigmoid-like function lies where its slope is next to nothing.

    ## What it does
    Counts the elements outside the responsive interval of each activation function that flattens on both sides: the
    inputs where the local derivative is below 6 % of its maximum (|x| > 2.08 for tanh). It fires when the median
    share over the sampled steps is above 25 %, or one and a half times what standard normal pre-activations give where
    that is more (48 % for hardtanh); it needs four of them, or every step of a shorter run.

    ## Why is this bad
    The gradient is multiplied by the local derivative. A saturated element passes almost none of it on, so the
    weights below hardly learn from that example, and units saturated on every example are dead.

    ## Evidence
    The median share of saturated elements, the standard deviation of the pre-activations, the number of steps.

    ## Stays silent on
    Functions that are flat on one side only (ReLU: see A002); the activation that feeds nothing but the loss;
    gates and what they gate, whose output is multiplied or added rather than given to a layer as it is, as in the
    cells of an LSTM or GRU written by hand; softmax in attention; `nn.LSTM` and `nn.GRU`, which are not looked into.

    ## Example
        h = torch.tanh(x @ torch.randn(30, 200))  # pre-activations with standard deviation 5.5

    ## Fix
    Rescale the weights of the layer before it, bring its inputs to unit scale, or put a normalisation layer between
    the layer and the function. Where it grows during training, lower the learning rate. `--unsafe-fixes`
    (`rescale-weights`) rescales a layer that feeds the function directly, before the first step.

    ## References
    - Understanding the difficulty of training deep feedforward neural networks,
      https://proceedings.mlr.press/v9/glorot10a.html
    - Efficient BackProp, http://yann.lecun.com/exdb/publis/pdf/lecun-98b.pdf
    """

    code = "A001"
    name = "saturated"
    stage = Stage.ACTIVATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.ACTIVATIONS)
    explains = ("A002", "A003", "G001", "G004", "L013")
    fixes = ("rescale-weights",)
    max_saturated = Threshold(MAX_SATURATED, "% of a site's elements")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each bounded activation site by its median over the sampled steps."""
        graph = Graph(trace)
        for site in trace.of_kind(Kind.ACTIVATION):
            if site.bounded and site.interval is not None and not _excused(trace, graph, site):
                yield from self._judge(trace, site, site.interval)

    def _judge(self, trace: Trace, site: Site, interval: tuple[float, float]) -> Iterator[Finding]:
        steps, shares = finite(trace.series(site, Role.INPUT, "outside_fraction"))
        if not len(steps) or not seen_enough(trace, len(steps)):
            return
        measured = 100.0 * float(np.median(shares))
        limit = max(self.max_saturated, MORE * 100.0 * _normal_outside(*interval))
        if measured <= limit:
            return
        _, stds = finite(trace.series(site, Role.INPUT, "std"))
        yield self.finding(
            site,
            steps=span(steps),
            measured=measured,
            threshold=limit,
            unit="%",
            message=(
                f"{measured:.0f} % of the outputs of {site.label} are saturated ({_outside(*interval)}); "
                f"at most {limit:.0f} % is healthy"
            ),
            evidence=(
                Evidence("std of the pre-activations", float(np.median(stds))),
                Evidence("sampled steps", float(len(steps)), "steps"),
            ),
        )


def _excused(trace: Trace, graph: Graph, site: Site) -> bool:
    multiplied = not trace.consumers(site)  # a gate or a gated value: no layer takes its output as it is
    return multiplied or graph.feeds_only_loss(site)


def _normal_outside(lower: float, upper: float) -> float:
    """Return the share of a standard normal distribution outside an interval."""
    return 1.0 - (math.erf(upper / math.sqrt(2)) - math.erf(lower / math.sqrt(2))) / 2


def _outside(lower: float, upper: float) -> str:
    if lower == -upper:
        return f"|pre-activation| > {upper:.2f}"
    return f"pre-activation outside {lower:.2f} … {upper:.2f}"
