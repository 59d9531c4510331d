"""L010. Shapes that differ are made equal: https://docs.pytorch.org/docs/stable/notes/broadcasting.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace
from unstuck.trace.trace import Vector

MAX_SHARE = 0.5  # of the sampled steps; a last batch of one example does not broadcast
MAX_PAIRS = 1.0  # targets for each prediction
ELEMENTWISE = frozenset(
    """
    mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss gaussian_nll_loss kl_div soft_margin_loss
    hinge_embedding_loss
    """.split()
)


class BroadcastLoss(Rule):
    """Predictions and targets of different shapes are compared all with all instead of one with one.

    ## What it does
    Looks at the shapes that an elementwise loss (`mse_loss`, `huber_loss`, `kl_div` ...) is given, and at differences
    of a layer's output and data in hand-written ones. It fires when one has more dimensions than the other and both are
    repeated to fit: (N, 1) against (N,) gives N x N comparisons.

    ## Why is this bad
    Every prediction is pulled towards every target, so the best answer is the mean of the batch for all. The loss falls
    to the variance of the targets and stays there.

    ## Evidence
    The number of targets that each prediction is compared with, and the dimension of size 1 that one side has too many.

    ## Stays silent on
    Equal shapes; one target for many predictions or the reverse (a constant, an ensemble), where only one side is
    repeated; comparisons of all with all that are written out, with the same number of dimensions on both sides;
    batches of one.

    ## Example
        loss = F.mse_loss(model(x), y)   # model(x) is (64, 1), y is (64,)

    ## Fix
    Give both the same shape: `model(x).squeeze(1)`, or `y.unsqueeze(1)`.

    ## References
    - Broadcasting semantics, https://docs.pytorch.org/docs/stable/notes/broadcasting.html
    """

    code = "L010"
    name = "broadcast-loss"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("A002", "A003", "D006", "L013")
    max_share = Threshold(MAX_SHARE, "of the sampled steps")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each elementwise loss and each difference by its shapes."""
        for site in trace.of_kind(Kind.LOSS, Kind.OPERATION):
            if site.kind is Kind.LOSS and site.op not in ELEMENTWISE:
                continue
            targets = dict(trace.vectors(site, "target_shape"))
            pairs = [(s, p, targets[s]) for s, p in trace.vectors(site, "prediction_shape") if s in targets]
            wrong = [pair for pair in pairs if all_with_all(pair[1], pair[2]) > MAX_PAIRS]
            if wrong and len(wrong) > self.max_share * len(pairs):
                yield self._report(site, wrong[0][0], *wrong[-1])

    def _report(self, site: Site, first: int, last: int, predictions: Vector, targets: Vector) -> Finding:
        pairs = all_with_all(predictions, targets)
        return self.finding(
            site,
            steps=(first, last),
            measured=pairs,
            threshold=MAX_PAIRS,
            unit="targets for each prediction",
            message=(
                f"{site.op} compares predictions of shape {_spell(predictions)} with targets of shape "
                f"{_spell(targets)}: each prediction with {pairs:.0f} targets"
            ),
            evidence=(
                Evidence("comparisons", pairs * math.prod(predictions), "elements"),
                *_superfluous("predictions", predictions, targets),
                *_superfluous("targets", targets, predictions),
            ),
        )


def all_with_all(predictions: Vector, targets: Vector) -> float:
    """Return how many targets each prediction is compared with, when shapes of different length repeat both; else 1."""
    n = max(len(predictions), len(targets))
    if len(predictions) == len(targets):
        return 1.0
    left, right = ([1.0] * (n - len(shape)) + [float(size) for size in shape] for shape in (predictions, targets))
    whole = math.prod(max(a, b) for a, b in zip(left, right, strict=True))
    times = (whole / max(1.0, math.prod(left)), whole / max(1.0, math.prod(right)))
    return times[0] if min(times) > 1.0 else 1.0


def _superfluous(side: str, shape: Vector, other: Vector) -> tuple[Evidence, ...]:
    """Return which dimension of `shape` makes it the `other` shape when it is taken out."""
    sizes, wanted = [int(size) for size in shape], [int(size) for size in other]
    fitting = [axis for axis, size in enumerate(sizes) if size == 1 and sizes[:axis] + sizes[axis + 1 :] == wanted]
    return tuple(Evidence(f"superfluous dimension of the {side}", float(axis), "axis") for axis in fitting[:1])


def _spell(shape: Vector) -> str:
    sizes = ", ".join(f"{size:.0f}" for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"
