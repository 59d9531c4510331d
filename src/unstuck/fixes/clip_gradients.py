"""clip-gradients: bound the global norm of the gradients, as seen in the run so far.

Clipping keeps a gradient's direction and takes away what outliers have in excess (Pascanu et al. 2013,
https://proceedings.mlr.press/v28/pascanu13.html, who set the bound by the average norm over many updates).
"""

from __future__ import annotations

import math

import numpy as np
from torch.optim.optimizer import Optimizer

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.scale_learning_rate import rounded
from unstuck.fixes.stepping import GradientBound
from unstuck.trace import Kind, Role, Trace

TIMES_MEDIAN = 2.0  # bound over median norm (1)
MIN_NORMS = 8  # sampled steps for a median


class ClipGradients(Remedy):
    """Clip the gradients by their global norm.

    ## What it does
    Takes the global norm of each optimizer's gradients at the sampled steps, and from then on scales the gradients
    before each step so that their norm is at most twice the median (rounded to 1, 2 or 5 times a power of ten). The
    factor of a `GradScaler` is left out of the norm. Parameters that are NaN or infinite already go back to where they
    began, if that is still kept.

    ## When it must not be used
    Where the loss itself is wrong: outliers in the data keep their loss, they only do less harm. Where nearly every
    step is clipped already. It is refused where the program clips, and without an optimizer (the bound is then given as
    an advice).

    ## References
    - Pascanu et al. 2013, https://proceedings.mlr.press/v28/pascanu13.html
    - torch.nn.utils.clip_grad_norm_,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    """

    name = "clip-gradients"
    in_flight = True
    rewinds = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Bound the norm for every optimizer."""
        if patient.trace.of_kind(Kind.CLIPPING):
            raise Withheld("the program clips its gradients already")
        if not patient.optimizers:
            norms = norms_of(patient.trace, [site.index for site in patient.trace.of_kind(Kind.PARAMETER)])
            advice = f"; clip to {bound_for(norms):g} in your own code" if len(norms) >= MIN_NORMS else ""
            raise Withheld(f"there is no optimizer{advice}")
        found = [
            (optimizer, norms_of(patient.trace, _sites_of(patient, optimizer))) for optimizer in patient.optimizers
        ]
        if not all(len(norms) >= MIN_NORMS for _, norms in found):
            raise Withheld(f"the norm of the gradients is known at fewer than {MIN_NORMS} steps")
        broken = any(
            not bool(parameter.detach().isfinite().all())
            for optimizer, _ in found
            for group in optimizer.param_groups
            for parameter in group["params"]
        )
        if broken:
            patient.rewind()
        return [self._clip(patient, finding, optimizer, norms) for optimizer, norms in found]

    def _clip(self, patient: Patient, finding: Finding, optimizer: Optimizer, norms: list[float]) -> Fix:
        bound = bound_for(norms)
        GradientBound(optimizer, bound)
        return self.fix(
            finding,
            site=type(optimizer).__name__,
            statistic="largest global norm of the gradients",
            unit="1",
            before=max(norms),
            after=bound,
            snippet=f"torch.nn.utils.clip_grad_norm_(model.parameters(), {bound:g})"
            "  # before optimizer.step(), and after scaler.unscale_(optimizer) where there is a scaler",
            step=patient.step,
        )


def norms_of(trace: Trace, sites: list[int]) -> list[float]:
    """Return the global norm of the gradients of some parameters at each sampled step where it is finite."""
    squares: dict[int, float] = {}
    for index in sites:
        for step, summary in trace.summaries(trace.sites[index], Role.GRADIENT):
            norm = math.inf if summary.nonfinite else summary.norm
            squares[step] = squares.get(step, 0.0) + norm**2
    return [math.sqrt(square) for _, square in sorted(squares.items()) if 0 < square < math.inf]


def bound_for(norms: list[float]) -> float:
    """Return the bound for gradients whose norms were these."""
    return rounded(TIMES_MEDIAN * float(np.median(norms)))


def _sites_of(patient: Patient, optimizer: Optimizer) -> list[int]:
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    sites = patient.trace.of_kind(Kind.PARAMETER)
    return [site.index for site in sites if id(patient.network.parameter(site.index)) in own]
