"""A005. After Goodfellow et al., Deep Learning, section 6.3, https://www.deeplearningbook.org/contents/mlp.html."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SOFTMAXES = 0  # between two weight layers
MIN_UNITS = 8  # classes; fewer are more likely meant as probabilities, which a layer then reads; the faulty one has 48
SOFTMAXES = frozenset({"softmax", "softmin"})


class HiddenSoftmax(Rule):
    """A softmax serves as the activation function of a hidden layer.

    ## What it does
    Fires where the output of a softmax over at least eight units, made from an earlier layer, goes as it is into a
    weight layer with a bias.

    ## Why is this bad
    The units share a sum of one: each can be large only where the others are small, and with many of them all are
    small. The signal that reaches the next layer is weak, and so is the gradient that comes back.

    ## Evidence
    The number of units of the softmax.

    ## Stays silent on
    Attention, gates and routers, whose softmax is multiplied with values that are no parameters; mixtures, where it
    weights the rows of a matrix and no bias is added; predictions that a loss judges too; layers that also take data
    from outside, as a discriminator does; softmaxes over fewer than eight units; log-softmax.

    ## Example
        nn.Sequential(nn.Linear(20, 64), nn.Softmax(dim=1), nn.Linear(64, 7))

    ## Fix
    Use ReLU, GELU or tanh between layers, and a softmax where probabilities are wanted.

    ## References
    - Deep Learning, section 6.3, https://www.deeplearningbook.org/contents/mlp.html
    - torch.nn.Softmax, https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    """

    code = "A005"
    name = "hidden-softmax"
    stage = Stage.ACTIVATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS)
    explains = ("I004", "A007", "G001", "L013", "U002", "U003")
    min_units = Threshold(MIN_UNITS, "classes of the softmax")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each softmax that feeds a weight layer directly; those of one line count once."""
        graph = Graph(trace)
        reported: set[object] = set()
        for softmax in trace.of_kind(Kind.SOFTMAX):
            layers = [layer for layer in trace.consumers(softmax) if _reads(trace, layer)]
            place = softmax.location or softmax.index
            if softmax.op not in SOFTMAXES or not layers or place in reported:
                continue
            classes = max((value for _, value in trace.scalars(softmax, "classes")), default=0.0)
            if classes >= self.min_units and _is_hidden(trace, graph, softmax):
                reported.add(place)
                yield self._report(trace, softmax, layers[0], classes)

    def _report(self, trace: Trace, softmax: Site, layer: Site, classes: float) -> Finding:
        steps = trace.steps or [0]
        return self.finding(
            softmax,
            steps=(steps[0], steps[-1]),
            measured=1.0,
            threshold=float(MAX_SOFTMAXES),
            unit="softmaxes",
            message=(
                f"{softmax.label} over {classes:.0f} units stands between weight layers; {layer.label} takes it as is"
            ),
            evidence=(Evidence("units", classes, "units"),),
        )


def _reads(trace: Trace, layer: Site) -> bool:
    """Tell whether a site is a weight layer with a bias that takes no data from outside (zeros start a recurrence)."""
    biased = any(parameter.slot == "bias" for parameter in trace.parameters_of(layer))
    fed = any(summary.std > 0 for _, summary in trace.summaries(layer, Role.INPUT))
    return layer.kind is Kind.WEIGHT_LAYER and biased and not fed


def _is_hidden(trace: Trace, graph: Graph, softmax: Site) -> bool:
    """Tell whether a layer made the softmax's input, and no loss judges either."""
    above = trace.producers(softmax)
    judged = any(site.kind is Kind.LOSS for place in (softmax, *above) for site in trace.consumers(place, direct=False))
    return not judged and any(trace.sites[index].kind is Kind.WEIGHT_LAYER for index in graph.upstream(softmax.index))
