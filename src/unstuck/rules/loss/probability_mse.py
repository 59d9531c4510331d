"""L017. After Golik et al. 2013, https://www.isca-archive.org/interspeech_2013/golik13_interspeech.html."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MIN_SHARE = 0.5  # of the sampled steps must show nothing but zeros and ones, and both
TOLERANCE = 1e-6  # of the variance of the targets, beside mean · (1 - mean), which only zeros and ones have
SQUARED = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss"})


class ProbabilityMse(Rule):
    """Probabilities are fitted to class labels by squared error.

    ## What it does
    Looks at `mse_loss` (and `smooth_l1_loss`, `huber_loss`) whose predictions come straight out of a softmax or
    sigmoid. It fires when the targets are zeros and ones.

    ## Why is this bad
    The gradient is that of the squared error times the slope of the softmax or sigmoid. Where the network is sure and
    wrong that slope is near zero, so the worst mistakes teach the least; with many classes nearly nothing is learnt
    from the start. Cross-entropy cancels the slope: its gradient is the error itself.

    ## Evidence
    The share of ones among the targets.

    ## Stays silent on
    Targets between 0 and 1 (other networks' probabilities, smoothed labels, pixels, heat maps); batches of one kind of
    target (a discriminator's); targets that are the network's own input (autoencoders of black-and-white pictures).

    ## Example
        loss = F.mse_loss(logits.softmax(1), F.one_hot(y, 20).float())

    ## Fix
    `cross_entropy(logits, y)`, or `binary_cross_entropy_with_logits` where classes do not exclude each other.

    ## References
    - Golik, Doetsch, Ney 2013, Cross-entropy vs. squared error training,
      https://www.isca-archive.org/interspeech_2013/golik13_interspeech.html
    """

    code = "L017"
    name = "probability-mse"
    stage = Stage.LOSS
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("A001", "G001", "L013")
    min_share = Threshold(MIN_SHARE, "of the sampled steps")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each squared error that a softmax or sigmoid feeds."""
        for loss in trace.of_kind(Kind.LOSS):
            if loss.op not in SQUARED:
                continue
            source = next((site for site in trace.producers(loss) if _gives_probabilities(site)), None)
            if source is not None:
                yield from self._judge(trace, loss, source)

    def _judge(self, trace: Trace, loss: Site, source: Site) -> Iterator[Finding]:
        own_input = {step for step, same in trace.scalars(loss, "target_is_data") if same}
        seen = trace.scalars(loss, "target_mean")
        labels = [(step, mean) for step, mean in seen if step not in own_input and _zeros_and_ones(trace, loss, step)]
        if not labels or len(labels) <= self.min_share * len(seen):
            return
        share = sum(mean for _, mean in labels) / len(labels)
        yield self.finding(
            loss,
            steps=(labels[0][0], labels[-1][0]),
            measured=100 * len(labels) / len(seen),
            threshold=100 * self.min_share,
            unit="% of the sampled steps",
            message=f"{loss.op} fits the output of a {source.op} to zeros and ones ({share:.0%} ones)",
            evidence=(Evidence("ones among the targets", 100 * share, "%"),),
        )


def _gives_probabilities(site: Site) -> bool:
    return site.op in ("softmax", "sigmoid") and site.kind in (Kind.SOFTMAX, Kind.ACTIVATION)


def _zeros_and_ones(trace: Trace, loss: Site, step: int) -> bool:
    """Tell whether a step's targets are zeros and ones, and both occur."""
    names = ("target_min", "target_max", "target_mean", "target_std")
    low, high, mean, std = (trace.scalar(loss, name, step) for name in names)
    if low != 0.0 or high != 1.0 or mean is None or std is None:
        return False
    return abs(std * std - mean * (1 - mean)) < TOLERANCE
