"""N005. After https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.evaluation import NOT_SEEN, evaluations, on, repeated, twin
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Signal, Site, Trace

MAX_ACTIVE = 0  # evaluation passes with dropout or batch statistics
MAX_RATE = 0.5  # such passes per training step; more are part of the method: targets, samples, teachers


class TrainModeEvaluation(Rule):
    """The network is evaluated in train mode, with dropout or batch statistics on.

    ## What it does
    Looks at passes without gradients between training steps in which a loss is computed or predictions are compared
    with labels. It fires when dropout drops there, or batch normalisation uses the batch's statistics, in layers that
    are trained, while the whole network is in train mode.

    ## Why is this bad
    The result describes a network with units missing, or one whose answer depends on what else is in the batch. It is
    worse or better than the trained network, changes from run to run, and early stopping and model selection follow
    it. With batch normalisation the evaluation data enter the running statistics as well.

    ## Evidence
    The number of layers in train mode, the number of evaluation passes looked at, and dropout's probability.

    ## Stays silent on
    Passes in which no loss is computed and nothing compared: samples of a generator, targets, teachers, statistics
    being recalibrated; passes at every other step or more often; several passes over one batch (Monte Carlo dropout)
    and layers put into train mode while the network is in eval mode; passes with gradients.

    ## Example
        with torch.no_grad():
            loss = F.cross_entropy(model(x_test), y_test)  # model.eval() was not called

    ## Fix
    Call model.eval() before evaluating and model.train() afterwards.

    ## References
    - Autograd mechanics, evaluation mode,
      https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval
    """

    code = "N005"
    name = "train-mode-evaluation"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    max_rate = Threshold(MAX_RATE, "passes per training step")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an evaluation pass through a norm or dropout."""
        return super().lacking(trace) or (None if evaluations(trace) else NOT_SEEN)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Report the first layer of each operation that is in train mode in an evaluation."""
        active = [(site, steps) for site in evaluations(trace) if (steps := _active(trace, site, self.max_rate))]
        reported: set[str] = set()
        for site, steps in active:
            if site.op in reported:
                continue
            reported.add(site.op)
            same = [other for other, _ in active if other.op == site.op]
            yield self._report(trace, site, steps, len(same))

    def _report(self, trace: Trace, site: Site, steps: list[int], layers: int) -> Finding:
        norm = site.op == "batch_norm"
        p = trace.scalar(site, "p", steps[-1])
        what = "normalises by the batch's statistics" if norm else "drops units"
        drops = () if norm or p is None else (Evidence("dropout probability", p),)
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=float(len(steps)),
            threshold=float(MAX_ACTIVE),
            unit="evaluation passes",
            message=(
                f"{site.label} {what} in an evaluation without gradients: the network is in train mode "
                f"({len(steps)} of the evaluations looked at, {layers} such layers)"
            ),
            evidence=(Evidence("layers in train mode", float(layers), "layers"), *drops),
        )


def _active(trace: Trace, site: Site, max_rate: float) -> list[int]:
    """Return the steps at which a trained layer was in train mode while the network was being evaluated."""
    if twin(trace, site) is None:
        return []
    if not _rare(trace, site, max_rate):
        return []
    return [
        step
        for step, training in trace.scalars(site, "training")
        if training
        and on(trace, site, "own_training", step)
        and on(trace, site, "root_training", step)
        and trace.scalar(site, "p", step) != 0.0
        and _scored(trace, site, step)
        and not repeated(trace, site, step)
    ]


def _scored(trace: Trace, site: Site, step: int) -> bool:
    return (trace.scalar(site, "losses", step) or 0.0) + (trace.scalar(site, "comparisons", step) or 0.0) > 0


def _rare(trace: Trace, site: Site, max_rate: float) -> bool:
    """Tell whether the pass is no part of each training step."""
    step, entered = (trace.scalars(site, "entered") or [(0, 0.0)])[-1]
    return entered <= max(1.0, max_rate * step)
