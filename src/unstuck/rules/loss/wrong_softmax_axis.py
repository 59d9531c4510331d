"""L007. Which dimension a softmax goes over: https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace
from unstuck.trace.trace import Vector

MIN_EXAMPLES = 4  # in the batch; smaller numbers are the size of too much else
MIN_SHARE = 0.5  # of the sampled steps must show it; the last batch of an epoch may be of any size
IMAGE_DIMS = 4  # from so many on, predictions have the batch first by torch's convention
TAKES_CLASSES = ("cross_entropy", "nll_loss")


class WrongSoftmaxAxis(Rule):
    """A softmax is taken over the examples of the batch instead of over classes or positions.

    ## What it does
    Takes the number of examples from the first dimension of what the loss is given, and looks at each softmax on the
    way there: it fires when the dimension that the softmax goes over has that size while no other one has it or a
    multiple of it. The same holds for attention scores, (batch, ..., T, T), over whose first dimension a softmax goes.

    ## Why is this bad
    The probabilities of an example depend on which others are in its batch, and no example's sum to 1. As soon as
    batches differ (one example at a time, say) the network computes something else.

    ## Evidence
    The shape, the dimension, and the number of examples.

    ## Stays silent on
    Attention over positions, classes or the other examples (where two dimensions have the size of the batch); pooling
    over the elements of one set with nothing but one score each; losses whose predictions do not say which dimension is
    the batch (sequences of vectors, single numbers).

    ## Example
        log_probs = F.log_softmax(logits, dim=0)   # (batch, classes)

    ## Fix
    Name the dimension of the classes, mostly `dim=-1` or `dim=1`.

    ## References
    - torch.nn.Softmax, https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    """

    code = "L007"
    name = "wrong-softmax-axis"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS,)  # also losses without a baseline (kl_div)
    explains = ("L001", "L005", "L013", "S001")
    min_examples = Threshold(MIN_EXAMPLES, "examples in the batch")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each softmax by the losses that it reaches."""
        graph = Graph(trace)
        for softmax in trace.of_kind(Kind.SOFTMAX):
            below = [trace.sites[i] for i in sorted(graph.downstream(softmax.index))]
            for loss in (site for site in below if site.kind is Kind.LOSS):
                finding = self._judge(trace, softmax, loss)
                if finding is not None:
                    yield finding
                    break

    def _judge(self, trace: Trace, softmax: Site, loss: Site) -> Finding | None:
        dims = dict(trace.scalars(softmax, "dim"))
        predictions = dict(trace.vectors(loss, "prediction_shape"))
        shapes = [(s, shape) for s, shape in trace.vectors(softmax, "shape") if s in dims and s in predictions]
        wrong = [
            (step, shape)
            for step, shape in shapes
            if _goes_over_the_batch(shape, int(dims[step]), _examples(loss, predictions[step], self.min_examples))
        ]
        if not wrong or len(wrong) <= MIN_SHARE * len(shapes):
            return None
        step, shape = wrong[-1]
        dim, examples = int(dims[step]), shape[int(dims[step])]
        sizes = ", ".join(f"{size:.0f}" for size in shape)
        return self.finding(
            softmax,
            steps=(wrong[0][0], step),
            measured=float(examples),
            threshold=self.min_examples,
            unit="examples",
            message=(
                f"{softmax.label} goes over dimension {dim} of ({sizes}), "
                f"which holds the {examples:.0f} examples of the batch"
            ),
            evidence=(Evidence("dimension", float(dim)),),
        )


def _examples(loss: Site, shape: Vector, least: float) -> float | None:
    """Return how many examples a loss is given, by the first dimension of its predictions; None when it may not be."""
    certain = len(shape) in (1, 2) or len(shape) >= IMAGE_DIMS or (loss.op in TAKES_CLASSES and len(shape) > 1)
    return float(shape[0]) if certain and len(shape) and shape[0] >= least else None


def _goes_over_the_batch(shape: Vector, dim: int, examples: float | None) -> bool:
    """Tell whether the softmax's dimension is that of the examples, and no other one can be."""
    if examples is None or len(shape) < 2:
        return False
    size, others = shape[dim], [n for d, n in enumerate(shape) if d != dim]
    if size == examples:
        return math.prod(others) > 1 and all(n % examples for n in others)
    scores = len(shape) > 2 and dim == 0 and shape[-1] == shape[-2] > 1
    return bool(scores and size >= MIN_EXAMPLES and size * shape[-1] == examples and size != shape[-1])
