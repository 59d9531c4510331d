"""Which layers a finding about scale wants rescaled, and to what; read from the trace alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from unstuck.capture.intervention import LayerOutput
from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.rules.depth import chains
from unstuck.rules.gradient import vanishing_gradients
from unstuck.rules.init.unscaled_weights import UnscaledWeights
from unstuck.stats import summarise
from unstuck.trace import Kind, Role, Site, Trace

TARGET_STD = 1.0  # of the pre-activations, dimensionless; the fixed point that the gains keep
CLOSE = 0.1  # of the target; LSUV's tolerance: a layer within it is left as it is
TANH_LIMIT = 2.0845  # end of tanh's responsive interval
WIDE = 0.7  # of that, for sigmoids: press-strokes and shell-classifier gain 67 and 84 % by it, by 1.0 68 and 57 %
RESETS = frozenset({Kind.NORM, Kind.SOFTMAX, Kind.ATTENTION, Kind.RECURRENT})


@dataclass(frozen=True)
class Target(ABC):
    """What a layer is to be brought to in the pass that comes next, because of the finding `code`.

    `names` are those of the layer's parameters, weight first, and `codes` what gives them in the user's own code.
    """

    layer: Site
    code: str
    names: tuple[str, ...]
    codes: tuple[str, ...]

    @abstractmethod
    def mend(self, output: LayerOutput) -> Fix | None:
        """Change what the layer has just made, and its parameters with it; None when it is right as it is.

        Raises ValueError when the output allows none.
        """


@dataclass(frozen=True)
class Spread(Target):
    """The standard deviation that a layer's output is to have; `centred`: about each unit's mean, which becomes 0."""

    std: float
    centred: bool

    def mend(self, output: LayerOutput) -> Fix | None:
        """Bring the output to `std`; one step suffices, as it is linear in the parameters."""
        value = output.value.detach()
        units = output.unit_dim % value.dim()
        others = [dim for dim in range(value.dim()) if dim != units]
        centred = self.centred and bool(output.biases) and bool(others)
        centre = value.double().mean(others, keepdim=True) if centred else None
        before = summarise(value if centre is None else value - centre.to(value.dtype)).std
        shift = 0.0 if centre is None else float(centre.abs().max())
        if abs(before - self.std) <= CLOSE * self.std and shift <= CLOSE * self.std:
            return None
        factor = rescale(output.weight, output.biases, before, self.std)
        output.value.data.mul_(factor)
        lines = snippet.multiplied(self.codes, factor)
        if centre is not None:
            _centre(output, centre * factor)
            lines.append(f"# then subtract from {self.codes[-1]} each unit's mean output in a first batch")
        return Fix(
            "rescale-weights",
            self.code,
            Applicability.UNSAFE,
            ", ".join(self.names),
            self.layer.location,
            "output std",
            "1",
            before,
            summarise(output.value).std,
            "\n".join(lines),
        )


def _centre(output: LayerOutput, mean: Tensor) -> None:
    """Subtract each unit's mean from the output, which leaves it to the first bias."""
    bias = output.biases[0]
    if output.includes_bias:
        output.value.data.sub_(mean.to(output.value.dtype))
        bias.data.sub_(mean.reshape(bias.shape).to(bias.dtype))
    else:
        bias.data.copy_(-mean.reshape(bias.shape))


def rescale(weight: Tensor, biases: Sequence[Tensor], measured_std: float, target: float = TARGET_STD) -> float:
    """Scale `weight` and `biases` in place (any shape) so that outputs of std `measured_std` get `target`.

    Returns the factor. Written through `.data`, so that autograd's version counters do not notice.
    Raises ValueError when the measured std is not positive and finite.
    """
    if not 0 < measured_std < float("inf"):
        raise ValueError(f"cannot rescale a layer whose pre-activations have std {measured_std}")
    factor = target / measured_std
    for parameter in (weight, *biases):
        parameter.data.mul_(factor)
    return factor


def targets(patient: Patient, finding: Finding) -> dict[int, Target]:
    """Return the layers to rescale by the index of their site.

    Raises Withheld when none of them may be changed alone, or when a normalisation would undo it.
    """
    trace = patient.trace
    found: dict[int, Target] = {}
    reason = f"no layer was seen that makes {finding.site}"
    for layer in _layers(trace, finding):
        if any(site.kind in RESETS for site in trace.consumers(layer, direct=False)):
            reason = f"what follows {layer.label} has a scale of its own"
            continue
        try:
            live = patient.layer_at(layer)
        except Withheld as refusal:
            reason = str(refusal)
            continue
        if not bool(live.weight.detach().any()):
            reason = f"the weights of {layer.label} are zero"
            continue
        names = tuple(name for name, _ in (live.named_weight, *live.named_biases))
        centred = finding.code == "G001" and bool(live.biases)
        std = (_wide(trace, layer) if centred else TARGET_STD) / _factor_after(trace, layer)
        found[layer.index] = Spread(layer, finding.code, names, snippet.parameters(trace, names), std, centred)
    if not found:
        raise Withheld(reason)
    return found


def _layers(trace: Trace, finding: Finding) -> Iterable[Site]:
    """Return the layers whose scale a finding is about."""
    index = finding.site_index
    if index is None:
        return ()
    if finding.code in ("I003", "I004"):
        return next((chain.layers for chain in chains(trace) if chain.layers[0].index == index), ())
    if finding.code == "G001":
        sites = next((c for c in vanishing_gradients.chains(trace) if index in [s.index for s in c]), [])
        return {layer.index: layer for site in sites for layer in _feeding(trace, site)}.values()
    if finding.code == "I002":
        others = UnscaledWeights().detect(trace)
        indices = {index, *(other.site_index for other in others if other.site_index is not None)}
        return [trace.sites[number] for number in sorted(indices)]
    return _feeding(trace, trace.sites[index])


def _wide(trace: Trace, layer: Site) -> float:
    """Return the std at which a bounded function saturates as much as tanh does at `TARGET_STD` (sigmoid: twice it)."""
    ends = [min(map(abs, s.interval)) for s in trace.consumers(layer, direct=False) if s.interval and s.bounded]
    return WIDE * TARGET_STD * max(1.0, min(ends) / TANH_LIMIT) if ends else TARGET_STD


def _feeding(trace: Trace, site: Site) -> Iterator[Site]:
    for producer in trace.producers(site, direct=False):
        if producer.kind is Kind.WEIGHT_LAYER:
            yield producer


def _factor_after(trace: Trace, layer: Site) -> float:
    """Return how much larger the pre-activations are than the layer's output (a slope in the function, say)."""
    followers = [site for site in trace.consumers(layer, direct=False) if site.kind is Kind.ACTIVATION]
    output = trace.summary(layer, Role.OUTPUT, 0)
    if len(followers) != 1 or output is None:
        return 1.0
    entering = trace.summary(followers[0], Role.INPUT, 0)
    if entering is None or not (output.std > 0 and entering.std > 0):
        return 1.0
    ratio = entering.std / output.std
    return ratio if math.isfinite(ratio) else 1.0
