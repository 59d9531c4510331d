"""clip-gradients: bound the global norm of the gradients, as seen in the run so far.

Clipping keeps a gradient's direction and takes away what outliers have in excess (Pascanu et al. 2013,
https://proceedings.mlr.press/v28/pascanu13.html, who set the bound by the average norm over many updates).
"""

from __future__ import annotations

import numpy as np
from torch.optim.optimizer import Optimizer

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.scale_learning_rate import go_back, rounded
from unstuck.fixes.stepping import GradientBound
from unstuck.rules.updates import MIN_NORMS, gradient_norms, usual_norms
from unstuck.trace import Kind

TIMES_MEDIAN = 1.0  # bound over median norm (1); see the numbers in the class


class ClipGradients(Remedy):
    """Clip the gradients by their global norm.

    ## What it does
    Takes the global norm of each optimizer's gradients at the sampled steps whose loss was not far above the first, and
    from then on scales the gradients before each step so that it is at most their median (rounded to 1, 2 or 5 times a
    power of ten). The factor of a `GradScaler` is left out of the norm. The bound stays on the optimizer for as long as
    that lives, also when the watching has ended. After a loss that is NaN or infinite the parameters go back to where
    they began, if that is still kept. On a recurrent network whose gradients explode now and then (adding problem, 400
    steps, four seeds), bounds of 0.5 to 1.5 times the median ended at a loss of 0.05 to 0.12, 2.3 to 3.4 times at 0.10
    to 0.16, 4.6 to 7.6 times at 0.06 to 0.19, none at 0.14 to 0.18.

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
            norms = usual_norms(patient.trace)
            advice = f"; clip to {bound_for(norms):g} in your own code" if len(norms) >= MIN_NORMS else ""
            raise Withheld(f"there is no optimizer{advice}")
        found = [
            (optimizer, usual_norms(patient.trace, _sites_of(patient, optimizer))) for optimizer in patient.optimizers
        ]
        if not all(len(norms) >= MIN_NORMS for _, norms in found):
            raise Withheld(f"the norm of the gradients is known at fewer than {MIN_NORMS} steps of usual loss")
        if finding.code == "L011":  # one update has spoilt all that was learned
            go_back(patient)
        return [self._clip(patient, finding, optimizer, norms) for optimizer, norms in found]

    def _clip(self, patient: Patient, finding: Finding, optimizer: Optimizer, norms: list[float]) -> Fix:
        bound = bound_for(norms)
        GradientBound(optimizer, bound)
        return self.fix(
            finding,
            site=type(optimizer).__name__,
            statistic="largest global norm of the gradients",
            unit="1",
            before=max(gradient_norms(patient.trace, _sites_of(patient, optimizer)).values()),
            after=bound,
            snippet=f"torch.nn.utils.clip_grad_norm_(model.parameters(), {bound:g})"
            "  # before optimizer.step(), and after scaler.unscale_(optimizer) where there is a scaler",
            step=patient.step,
        )


def bound_for(norms: list[float]) -> float:
    """Return the bound for gradients whose norms were these."""
    return rounded(TIMES_MEDIAN * float(np.median(norms)))


def _sites_of(patient: Patient, optimizer: Optimizer) -> list[int]:
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    sites = patient.trace.of_kind(Kind.PARAMETER)
    return [site.index for site in sites if id(patient.network.parameter(site.index)) in own]
