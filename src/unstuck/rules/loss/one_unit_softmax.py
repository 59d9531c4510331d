"""L006. A softmax over one number is 1 whatever the number is."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Signal, Site, Trace

MIN_CLASSES = 2  # that a softmax has to choose between


class OneUnitSoftmax(Rule):
    """A softmax is taken over a dimension of size one, so that its output is always 1.

    ## What it does
    Looks at the size of the dimension that each softmax or log-softmax goes over, and fires when it is 1 in every
    sampled step.

    ## Why is this bad
    The output does not depend on the input, so nothing before it gets a gradient: the layers below learn nothing.

    ## Evidence
    The number of classes, and the other dimensions of the input but the first that are larger than 1: there the
    softmax may belong. With one class, the output is 1 to the bit: there is no threshold to set.

    ## Stays silent on
    Dimensions that are 1 in some steps only, such as attention over a first token.

    ## Example
        model = nn.Sequential(nn.Linear(20, 1), nn.Softmax(dim=1))

    ## Fix
    For two classes, one output and a sigmoid (`binary_cross_entropy_with_logits`); or two outputs. Where the dimension
    was meant to be another one, name that one.

    ## References
    - torch.nn.Softmax, https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    """

    code = "L006"
    name = "one-unit-softmax"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS,)  # a network without a softmax does not have this fault
    explains = ("L001", "G004", "L013", "U005")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each softmax by the number of its classes."""
        for softmax in trace.of_kind(Kind.SOFTMAX):
            seen = trace.scalars(softmax, "classes")
            if seen and all(classes < MIN_CLASSES for _, classes in seen):
                yield self.finding(
                    softmax,
                    steps=(seen[0][0], seen[-1][0]),
                    measured=seen[0][1],
                    threshold=float(MIN_CLASSES),
                    unit="classes",
                    message=f"{softmax.label} chooses among {seen[0][1]:.0f} class: its output is 1 whatever its input",
                    evidence=tuple(
                        Evidence("larger dimension", float(axis), "axis") for axis in _larger(trace, softmax)
                    ),
                    related=tuple(site for site in trace.consumers(softmax) if site.kind is Kind.LOSS),
                )


def _larger(trace: Trace, softmax: Site) -> list[int]:
    """Return the dimensions of a softmax's input, but the first, the batch's, that are larger than 1 in some step."""
    shapes = [shape for _, shape in trace.vectors(softmax, "shape")]
    return [axis for axis in range(1, max(map(len, shapes), default=0)) if any(s[axis : axis + 1] > 1 for s in shapes)]
