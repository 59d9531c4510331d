"""G004. After https://docs.pytorch.org/docs/stable/notes/autograd.html (gradients of non-differentiable functions)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_ZERO = 0  # layers that are used, and get a gradient of nothing but zeros
FIRST_STEP = 6  # step; a branch that starts at zero passes gradients on from the second update on
MIN_STEPS = 4  # sampled steps from FIRST_STEP on, all of which must have shown zeros
LAYERS = frozenset({Kind.WEIGHT_LAYER, Kind.RECURRENT, Kind.EMBEDDING})


class ZeroGradient(Rule):
    """Layers get a gradient that is exactly zero in every element, at every step.

    ## What it does
    Looks for layers of whose parameters every gradient was exactly zero at all sampled steps from step 6 on (at least
    four). Where an operation with a derivative of zero was seen to stop the gradient (rounding, a sign, a random draw,
    sampling of the nearest element), it points there and counts the layers above; otherwise at the last of
    the layers, when layers that it feeds do get gradients or when no layer of the whole run gets any.

    ## Why is this bad
    Such layers keep their initial values, as if their gradient were missing, but nothing says so: the graph is whole,
    and the optimizer steps.

    ## Evidence
    The number of layers without gradient, of their parameters, and of sampled steps. Zero is meant exactly, so there is
    no threshold to set.

    ## Stays silent on
    Steps 0 to 5, in which branches that start at zero have no gradient; layers of which any parameter has a gradient;
    rows of an embedding that were not looked up; rounding with a straight-through estimator; experts that
    were not chosen, when others of the same shape beside them are trained; heads whose loss has a weight of zero.

    ## Example
        code = encoder(x).round()  # flat almost everywhere: the encoder never learns

    ## Fix
    Let the gradient through: `x + (x.round() - x).detach()` instead of `x.round()`, `mode="bilinear"` instead of
    "nearest", `dist.rsample()` or `mean + std * noise` instead of a draw with `torch.normal`.

    ## References
    - Autograd mechanics, https://docs.pytorch.org/docs/stable/notes/autograd.html
    - Estimating or propagating gradients through stochastic neurons, https://arxiv.org/abs/1308.3432
    """

    code = "G004"
    name = "zero-gradient"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.PARAMETER_GRADIENTS)
    explains = ("L013", "U002", "U003", "U005")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs gradients after the first steps."""
        if missing := super().lacking(trace):
            return missing
        if any(len(_later(trace, site)) >= MIN_STEPS for site in trace.of_kind(Kind.PARAMETER)):
            return None
        return f"gradients of a parameter at {MIN_STEPS} sampled steps from step {FIRST_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for each operation that stops the gradient, and one for what is left."""
        layers = [site for site in trace.sites if site.kind in LAYERS]
        zero = {site.index: site for site in layers if _all_zero(trace, site)}
        trained = {site.index for site in layers if _is_trained(trace, site)}
        if not zero:
            return
        graph = Graph(trace)
        left = dict(zero)
        for stop in trace.of_kind(Kind.OPERATION):
            inputs = [int(i) for _, vector in trace.vectors(stop, "inputs") for i in vector]
            above = set(inputs).union(*(graph.upstream(i) for i in inputs))
            if len(trace.scalars(stop, "stopped")) >= MIN_STEPS and (found := [left[i] for i in left if i in above]):
                left = {index: site for index, site in left.items() if index not in above}
                yield self._report(trace, stop, found, f"{stop.label} passes no gradient on: ")
        last = self._last(trace, graph, left, trained, whole=len(zero) == len(layers))
        if last is not None:
            found = [site for site in left.values() if site is last or site.index in graph.upstream(last.index)]
            yield self._report(trace, last, found, "")

    def _last(
        self, trace: Trace, graph: Graph, left: dict[int, Site], trained: set[int], *, whole: bool
    ) -> Site | None:
        """Return the last of the layers that pass something on to others which are trained; of all, if none is."""
        for site in sorted(left.values(), key=lambda site: -site.order):
            feeds = bool(graph.downstream(site.index) & trained) and not _has_trained_twin(trace, graph, site, trained)
            if feeds or whole:
                return site
        return None

    def _report(self, trace: Trace, site: Site, layers: list[Site], why: str) -> Finding:
        parameters = {p.index: p for layer in layers for p in trace.parameters_of(layer)}
        steps = sorted({step for p in parameters.values() for step in _later(trace, p)})
        which = f"the gradient of {layers[0].label}" if len(layers) == 1 else f"the gradients of {len(layers)} layers"
        verb = "was" if len(layers) == 1 else "were"
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=float(len(layers)),
            threshold=float(MAX_ZERO),
            unit="layers",
            message=f"{why}{which} {verb} exactly zero in every element at all {len(steps)} sampled steps "
            f"from step {steps[0]} on",
            evidence=(
                Evidence("layers without gradient", float(len(layers)), "layers"),
                Evidence("parameters", float(len(parameters)), "parameters"),
                Evidence("sampled steps", float(len(steps)), "steps"),
            ),
        )


def _later(trace: Trace, parameter: Site) -> dict[int, bool]:
    """Return, by sampled step from FIRST_STEP on, whether a parameter's gradient was zero in every element."""
    found = trace.summaries(parameter, Role.GRADIENT)
    return {step: s.zeros == s.count and s.count > 0 for step, s in found if step >= FIRST_STEP}


def _all_zero(trace: Trace, layer: Site) -> bool:
    """Tell whether a layer's parameters had gradients of zero alone, though the layer was given something to do."""
    seen = [_later(trace, parameter) for parameter in trace.parameters_of(layer)]
    seen = [steps for steps in seen if steps]
    used = trace.series(layer, Role.OUTPUT, "count")[1]
    idle = len(used) > 0 and not used.any()
    return bool(seen) and not idle and all(len(steps) >= MIN_STEPS and all(steps.values()) for steps in seen)


def _is_trained(trace: Trace, layer: Site) -> bool:
    return any(not all(_later(trace, parameter).values()) for parameter in trace.parameters_of(layer))


def _has_trained_twin(trace: Trace, graph: Graph, site: Site, trained: Iterable[int]) -> bool:
    """Tell whether a layer of the same shape beside this one is trained, as the chosen one of several experts is."""
    shapes = [parameter.shape for parameter in trace.parameters_of(site)]
    near = graph.upstream(site.index) | graph.downstream(site.index)
    return any(
        [parameter.shape for parameter in trace.parameters_of(trace.sites[i])] == shapes
        for i in trained
        if i not in near and i != site.index
    )
