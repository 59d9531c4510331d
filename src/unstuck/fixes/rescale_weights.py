"""rescale-weights: scale a layer so that its pre-activations start at unit standard deviation.

Unit pre-activations are what the gain of each activation function is made to keep: with gain/√fan_in weights
(https://docs.pytorch.org/docs/stable/nn.init.html), the rms of f(z), z ~ N(0, 1), times the gain is 1 again at the
next layer. Measuring on the data instead of trusting the input to have unit variance follows LSUV (Mishkin & Matas
2016, https://arxiv.org/abs/1511.06422), whose authors also rescale layer by layer in execution order.

Do not use on loaded weights, on weights shared with another layer, or on a layer that is zero on purpose.
"""

from __future__ import annotations

import math
from itertools import pairwise

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Layer, Patient, Remedy, Withheld
from unstuck.fixes.targets import RESETS, targets
from unstuck.rules.gradient import exploding_gradients
from unstuck.trace import Role


class RescaleWeights(Remedy):
    """Scale weight layers so that their pre-activations start at unit standard deviation.

    ## What it does
    In one forward pass on a batch, in execution order, each layer whose weights ignore the fan-in, that saturates the
    function behind it, or that stands in a chain through which the signal grows or fades, is multiplied by 1 / (the
    standard deviation of what enters the function), biases included, before the next layer is judged. One pass
    suffices, as the output is linear in the weights. Where gradients vanish through bounded functions, the mean of each
    unit's output is taken into its bias as well; where they explode, each layer is divided by the factor that they
    grow by on their way back through it. What only a whole pass can tell is mended in the next one; the training then
    goes back to where it began.

    ## When it must not be used
    On loaded weights, on weights shared with another layer, on layers that are zero on purpose, or where a
    normalisation follows (it undoes any scale). All of these are refused.

    ## References
    Mishkin & Matas 2016, https://arxiv.org/abs/1511.06422; gains:
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """

    name = "rescale-weights"
    initialises = True
    in_flight = True
    rewinds = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Rescale all layers that need it, in one pass: a script's next one."""
        if finding.code == "A001":
            _check_start(patient, finding)
        if finding.code == "G002":
            return self._even(patient, finding)
        aims = targets(patient, finding)
        if patient.rescale is None:
            raise Withheld("there is no further pass to do it in")
        patient.rewind()
        fixes = patient.rescale(aims)
        if not (fixes or patient.in_flight):
            raise Withheld(f"{finding.site} is within its limits in the first pass")
        return fixes

    def _even(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Divide each layer of a chain by what it and the function before it multiply the gradient with."""
        factors = _gradient_gains(patient, finding)
        patient.rewind()
        fixes = []
        for layer, gain in factors:
            layer.weight.data.div_(gain)
            patient.forget_moments(layer.weight)
            name = layer.named_weight[0]
            (line,) = snippet.multiplied(snippet.parameters(patient.trace, [name]), 1.0 / gain)
            statistic = "growth of the gradient through the layer"
            made = self.fix(finding, site=name, statistic=statistic, before=gain, snippet=line, step=patient.step)
            fixes.append(made)
        return fixes


def _gradient_gains(patient: Patient, finding: Finding) -> list[tuple[Layer, float]]:
    """Return the layers through which the gradient grows on its way back at the start, with the factor of each."""
    trace, found = patient.trace, []
    index = finding.site_index
    chain = next((c for c in exploding_gradients.chains(trace) if index in [site.index for site in c]), [])
    for below, layer in pairwise(chain):
        if any(site.kind in RESETS for site in trace.consumers(layer, direct=False)):
            raise Withheld(f"what follows {layer.label} has a scale of its own")
        lower, upper = (trace.summary(site, Role.OUTPUT_GRADIENT, 0) for site in (below, layer))
        if lower is not None and upper is not None and 0.0 < upper.rms < lower.rms < math.inf:
            found.append((patient.layer_at(layer), lower.rms / upper.rms))
    if not found:
        raise Withheld("no layer's gradients were measured at the start")
    return found


def _check_start(patient: Patient, finding: Finding) -> None:
    """Raise Withheld when it was not the initial weights that saturated a function."""
    site = patient.trace.sites[finding.site_index] if finding.site_index is not None else None
    start = patient.trace.summary(site, Role.INPUT, 0) if site is not None else None
    if start is None or 100.0 * start.outside_fraction <= finding.threshold:
        raise Withheld("it became so during the training, not by the initial weights")
