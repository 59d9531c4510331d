"""N004. After https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_STEPS = 4  # sampled steps of training in eval mode, up to the last one
MAX_STEPS = 0  # of those that a healthy loop has after training in train mode


class EvalModeTraining(Rule):
    """The network trains on in eval mode, in which an evaluation has left it.

    ## What it does
    Follows dropout and batch normalisation through the sampled training steps. It fires when one was on in the first
    of them and is off from some step on to the end, with the network as a whole in eval mode, while layers before it
    are still updated.

    ## Why is this bad
    `model.eval()` lasts until `model.train()` is called. From the first evaluation on the network trains without the
    regularisation that it was given, and its running statistics, which training keeps on using, stay those of the
    first steps while the weights move away from them.

    ## Evidence
    The first and the last step of training in eval mode, and the number of sampled ones.

    ## Stays silent on
    Layers in eval mode from the start, and those switched off alone, while the network is in train mode (batch
    normalisation frozen late in a run); networks or parts that are no longer updated; gradients taken in eval mode
    before the training pass of the same step (adversarial examples); fewer than four sampled steps.

    ## Example
        def evaluate(model):
            model.eval()
            ...  # and no model.train() afterwards

    ## Fix
    Call model.train() at the beginning of each epoch, or at the end of the evaluation.

    ## References
    - torch.nn.Module.train, https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train
    """

    code = "N004"
    name = "eval-mode-training"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.UPDATES)
    explains = ("N003", "L012", "L013")
    min_steps = Threshold(MIN_STEPS, "sampled steps in eval mode")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs batch normalisation or dropout."""
        if missing := super().lacking(trace):
            return missing
        switched = any(trace.scalars(site, "training") for site in trace.of_kind(Kind.NORM, Kind.DROPOUT))
        return None if switched else "batch normalisation or dropout"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Report the first layer that stays in eval mode, of each kind of operation that does."""
        graph = Graph(trace)
        stuck = [
            (site, steps)
            for site in trace.of_kind(Kind.NORM, Kind.DROPOUT)
            for steps in [_in_eval_mode(trace, site)]
            if len(steps) >= self.min_steps and _updated(trace, graph, site, steps)
        ]
        if stuck:
            yield self._report(*stuck[0], layers=len(stuck))

    def _report(self, site: Site, steps: list[int], layers: int) -> Finding:
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=float(len(steps)),
            threshold=float(MAX_STEPS),
            unit="sampled steps",
            message=(
                f"{site.label} was in train mode at first and is in eval mode in all training steps from "
                f"{steps[0]} on, as is the whole network"
            ),
            evidence=(Evidence("layers in eval mode", float(layers), "layers"),),
        )


def _in_eval_mode(trace: Trace, site: Site) -> list[int]:
    """Return the sampled steps at the end of the run at which a layer was off that was on before; [] if never on."""
    switches = trace.scalars(site, "training")
    off: list[int] = []
    for step, on in reversed(switches):
        if on:
            return off[::-1]
        if trace.scalar(site, "root_training", step) != 0.0:
            return []
        off.append(step)
    return []


def _updated(trace: Trace, graph: Graph, site: Site, steps: list[int]) -> bool:
    """Tell whether a parameter of the layer or of one before it moved at the last of these steps."""
    above = [site, *(trace.sites[index] for index in graph.upstream(site.index))]
    last = set(steps[-MIN_STEPS:])
    for parameter in {p for layer in above for p in layer.parameters}:
        series, rms = trace.series(trace.sites[parameter], Role.UPDATE, "rms")
        if any(step in last and value > 0 for step, value in zip(series, rms, strict=True)):
            return True
    return False
