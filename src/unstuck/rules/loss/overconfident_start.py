"""L001. After https://karpathy.github.io/2019/04/25/recipe/ ("verify loss @ init")."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, LossCall, Role, Signal, Site, Trace

MIN_EXCESS = 0.5  # nat above the baseline; 300 random default-initialised MLPs of torch stayed below 0.41
MIN_EXCESS_SHARE = 0.2  # of the baseline, so that a sum over a batch is judged like a mean
ERROR_FACTOR = 3.0  # times the allowed excess; from 1.5 nat on the right class gets under 1/4 of a blind guess's share

LIKELIHOODS = frozenset(
    {
        "cross_entropy",
        "nll_loss",
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "multilabel_soft_margin_loss",
        "soft_margin_loss",
        "objective",
    }
)
"""Operations whose loss is a negative log-likelihood of classes; the last is a hand-written one with a baseline."""


def allowed_excess(baseline: float, least: float = MIN_EXCESS) -> float:
    """Return how far above its baseline a loss may start, in nats: `least`, or a share of the baseline."""
    return max(least, MIN_EXCESS_SHARE * baseline)


def is_overconfident(value: float, baseline: float, least: float = MIN_EXCESS) -> bool:
    """Tell whether a loss (nats) starts too far (at least `least`) above that of uninformative predictions.

    False for baselines that are not positive: classes that can be guessed wrong always have a positive one.
    """
    if not (math.isfinite(value) and math.isfinite(baseline)) or baseline <= 0:
        return False
    return value - baseline > allowed_excess(baseline, least)


class OverconfidentStart(Rule):
    """The first loss is far above that of knowing nothing: the network starts out confidently wrong.

    ## What it does
    Compares each classification loss at step 0 with its baseline: the same loss call on uninformative predictions
    (ln 27 = 3.30 nats for 27 equally weighted classes). It fires when the loss is higher by more than 0.5 nat and by
    more than 20 %. Above three times that excess the finding is an error.

    ## Why is this bad
    An untrained network cannot know better than uniform predictions, so everything above the baseline is error that
    the output layer's initial weights put there. The first part of training goes into shrinking these weights, and
    the large gradients of that phase can harm the layers below.

    ## Evidence
    The loss at step 0, the baseline, the excess, and the standard deviation of the logits where it was measured.

    ## Stays silent on
    Runs that loaded weights; regression losses, whose unit depends on the targets; losses without a known baseline
    or with one that is not positive; a network whose first predictions are near uniform. Information only where the
    output layer shares its weights with an embedding and the excess is no error: such a network starts by repeating
    its last input (tiny T5 and Mamba models start 1.2 to 1.4 nats above, and train well).

    ## Example
        logits = hidden @ torch.randn(200, 27)  # standard deviation of the logits near 10
        loss = F.cross_entropy(logits, y)       # 27.9 where 3.3 would do

    ## Fix
    Scale the output layer's initial weights down (a hundredth is usual) and start its bias at zero, or at the
    logarithm of the class frequencies: `shrink-output-layer`.

    ## References
    - A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/
    - torch.nn.functional.cross_entropy,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """

    code = "L001"
    name = "overconfident-start"
    stage = Stage.LOSS
    severity = Severity.WARNING
    needs = (Signal.START, Signal.LOSS_CALL)
    explains = ("L003", "L013")
    fixes = ("shrink-output-layer",)
    min_excess = Threshold(MIN_EXCESS, "nat above the baseline")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a classification loss with a baseline at step 0."""
        if missing := super().lacking(trace):
            return missing
        return None if any(_judged(trace)) else "a classification loss with a known baseline at the first step"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each loss site by the mean of its calls at step 0."""
        if trace.facts.weights_loaded:
            return
        calls: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for call, baseline in _judged(trace):
            calls[call.site].append((call.value, baseline))
        for index, pairs in sorted(calls.items()):
            value = sum(value for value, _ in pairs) / len(pairs)
            baseline = sum(baseline for _, baseline in pairs) / len(pairs)
            if is_overconfident(value, baseline, self.min_excess):
                yield self._report(trace, trace.sites[index], value, baseline)

    def _report(self, trace: Trace, site: Site, value: float, baseline: float) -> Finding:
        excess, allowed = value - baseline, allowed_excess(baseline, self.min_excess)
        tied = _repeats_input(trace, site)
        evidence = [Evidence("baseline", baseline, "nat"), Evidence("excess", excess, "nat")]
        if (std := _logit_std(trace, site)) is not None:
            evidence.append(Evidence("std of the logits", std))
        return self.finding(
            site,
            steps=(0, 0),
            measured=value,
            threshold=baseline + allowed,
            unit="nat",
            message=(
                f"loss starts at {value:.2f} nats, {excess:.2f} above the {baseline:.2f} of uninformative predictions"
            ),
            evidence=tuple(evidence),
            severity=_severity(excess > ERROR_FACTOR * allowed, tied),
            fixes=() if tied else None,  # its weights are the embedding's as well
        )


def _severity(large: bool, tied: bool) -> Severity:
    if large:
        return Severity.ERROR
    return Severity.INFO if tied else Severity.WARNING


def _repeats_input(trace: Trace, loss: Site) -> bool:
    """Tell whether the layer that feeds the loss shares its weights with an embedding."""
    tables = {index for table in trace.of_kind(Kind.EMBEDDING) for index in table.parameters}
    layers = [site for site in trace.producers(loss, direct=False) if site.kind is Kind.WEIGHT_LAYER]
    return any(tables & set(layer.parameters) for layer in layers)


def _judged(trace: Trace) -> Iterator[tuple[LossCall, float]]:
    for call in trace.loss_at_start():
        if call.baseline is not None and trace.sites[call.site].op in LIKELIHOODS:
            yield call, call.baseline


def _logit_std(trace: Trace, loss: Site) -> float | None:
    sources = trace.producers(loss)
    for site in [*sources, *(s for source in sources if source.kind is Kind.SOFTMAX for s in trace.producers(source))]:
        summary = trace.summary(site, Role.OUTPUT, 0)
        if site.kind is Kind.WEIGHT_LAYER and summary is not None and math.isfinite(summary.std):
            return summary.std
    return None
