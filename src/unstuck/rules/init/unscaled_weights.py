"""I002. After He et al. 2015, https://arxiv.org/abs/1502.01852, and Glorot and Bengio 2010."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.scale import TOO_LARGE, TOO_SMALL, is_unscaled
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_SMALL_LAYERS = 2  # layers; a single small one, such as a wide first layer by Glorot, does no harm


@dataclass(frozen=True)
class Scale:
    """The scale of one layer's weights at the start: `ratio` is to gain / √fan_in."""

    layer: Site
    ratio: float
    weight_std: float
    target: float
    pre_activation_std: float
    follower: str


class UnscaledWeights(Rule):
    """A layer's initial weights are much larger or smaller than its fan-in and the function after it ask for.

    ## What it does
    Takes the root mean square of each layer's initial weights, times √fan_in, and compares it with the gain of the
    function that was seen to follow (1 for another weight layer, 5/3 for tanh, √2 for ReLU, …). It fires above 3
    times the gain when the pre-activations' standard deviation is above 3 too, and below a quarter of the gain when
    that is below 0.3, the latter only when two layers of a plain chain are so.

    ## Why is this bad
    Each layer multiplies the scale of its input. Too large, and the functions saturate or the signal explodes; too
    small, and both the signal and the gradient fade with depth.

    ## Evidence
    The weights' standard deviation and the one that fits, the ratio of the two, and the pre-activations'.

    ## Stays silent on
    Layers followed by a normalisation layer, an attention or an addition; output layers, which may well be small and
    are L001's when large; weights that are all zero; small weights with a residual connection around them or a
    normalisation layer right before or anywhere after them; runs that loaded weights.

    ## Example
        w1 = torch.randn(30, 200)  # √30 = 5.5 times too large for unit pre-activations
        h = torch.tanh(x @ w1)

    ## Fix
    Multiply the weights by gain / (their standard deviation × √fan_in), as `torch.nn.init.kaiming_normal_` with the
    nonlinearity's name would have drawn them: `rescale-weights`.

    ## References
    - Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
    - Understanding the difficulty of training deep feedforward neural networks,
      https://proceedings.mlr.press/v9/glorot10a.html
    - torch.nn.init.calculate_gain, https://docs.pytorch.org/docs/stable/nn.init.html
    """

    code = "I002"
    name = "unscaled-weights"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.WEIGHT_LAYERS, Signal.PARAMETER_GRADIENTS)
    explains = ("I003", "I004", "I007", "A001", "A002", "A003", "A006", "G001", "G002", "U003", "L011", "L013")
    fixes = ("rescale-weights",)
    too_large = Threshold(TOO_LARGE, "times gain / √fan_in")
    too_small = Threshold(TOO_SMALL, "times gain / √fan_in")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each hidden weight layer at step 0."""
        if trace.facts.weights_loaded:
            return
        graph = Graph(trace)
        limits = (self.too_small, self.too_large)
        layers = trace.of_kind(Kind.WEIGHT_LAYER)
        scales = [scale for layer in layers for scale in [_scale_of(trace, graph, layer, limits)] if scale]
        small = [s for s in scales if s.ratio < 1 and _in_plain_chain(trace, graph, s.layer)]
        for scale in scales:
            if scale.ratio > 1 or (scale in small and len(small) >= MIN_SMALL_LAYERS):
                yield self._report(scale)

    def _report(self, scale: Scale) -> Finding:
        return self.finding(
            scale.layer,
            steps=(0, 0),
            measured=scale.ratio,
            threshold=self.too_large if scale.ratio > 1 else self.too_small,
            unit="1",
            message=(
                f"weights of {scale.layer.label} start with std {scale.weight_std:.3g}, {scale.ratio:.2g} times the "
                f"{scale.target:.3g} that fits {scale.follower} at fan-in {scale.layer.fan_in}; "
                f"the pre-activations' std is {scale.pre_activation_std:.3g}"
            ),
            evidence=(
                Evidence("std of the weights", scale.weight_std),
                Evidence("std that fits", scale.target),
                Evidence("std of the pre-activations", scale.pre_activation_std),
            ),
        )


def _scale_of(trace: Trace, graph: Graph, layer: Site, limits: tuple[float, float]) -> Scale | None:
    """Return the layer's scale when it is a hidden layer with unscaled weights, else None."""
    weights = [p for p in trace.parameters_of(layer) if p.slot == "weight"]
    value = trace.summary(weights[0], Role.VALUE, 0) if len(weights) == 1 else None
    followers = _followers(trace, layer)
    if value is None or not layer.fan_in or not followers or graph.is_output_layer(layer):
        return None
    found = None
    for follower in followers:
        if follower.kind not in (Kind.ACTIVATION, Kind.WEIGHT_LAYER):
            return None
        hidden = follower.kind is Kind.ACTIVATION
        gain = follower.gain if hidden else 1.0
        after = trace.summary(follower, Role.INPUT, 0) if hidden else trace.summary(layer, Role.OUTPUT, 0)
        if gain is None or after is None or not is_unscaled(value.rms, layer.fan_in, gain, after.std, limits):
            return None
        target = gain / math.sqrt(layer.fan_in)
        found = Scale(layer, value.rms / target, value.rms, target, after.std, follower.op)
    return found


def _followers(trace: Trace, site: Site) -> list[Site]:
    """Return what takes the layer's output directly, seen through dropout."""
    found = []
    for consumer in trace.consumers(site):
        found += trace.consumers(consumer) if consumer.kind is Kind.DROPOUT else [consumer]
    return found


def _in_plain_chain(trace: Trace, graph: Graph, layer: Site) -> bool:
    after_norm = any(producer.kind is Kind.NORM for producer in trace.producers(layer))
    return not (after_norm or graph.reaches(layer, Kind.NORM) or graph.bypassed(layer))
