"""Repairs while the first forward pass runs, so that training begins from a mended start.

When a weight layer's output is about to be consumed, the layer is judged by the same thresholds as the rules use; if
it is at fault, its parameters are changed through `.data` and the output is made again from the layer's recorded
input, so that autograd's graph holds the new values. Layers further on are then judged on mended inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from unstuck.capture.functions import Activation
from unstuck.capture.intervention import Handover, LayerOutput
from unstuck.fixes import snippet
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import LOADED, LiveNetwork
from unstuck.fixes.shrink_output_layer import log_prior, shrink
from unstuck.fixes.targets import TARGET_STD, Target, rescale
from unstuck.rules.activation.saturated import MAX_SATURATED
from unstuck.rules.loss.overconfident_start import is_overconfident
from unstuck.rules.scale import is_unscaled
from unstuck.stats import summarise
from unstuck.trace import Trace


class ForwardRepairer:
    """Applies the remedies named at step 0; `applied` says what it did, `withheld` what it refused and why.

    Layers that have a target in `targets`, by their site, are brought there in the pass that comes next.

    Networks that loaded weights are left alone, and so are layers whose parameters another place uses as well. Of
    remedies that are not among `names`, `available` tells where they would have acted.
    """

    def __init__(self, names: Collection[str], targets: Mapping[int, Target] | None = None) -> None:
        self.names = frozenset(names)
        self._targets = dict(targets or {})
        self.applied: list[Fix] = []
        self.withheld: list[str] = []
        self.available: list[str] = []
        self._changed: list[tuple[Tensor, str]] = []

    @property
    def armed(self) -> bool:
        """Whether layers wait for being brought to their target."""
        return bool(self._targets)

    def after_layer(self, output: LayerOutput) -> None:
        """Bring a layer to its target, if it has one; see `fixes.rescale_weights`."""
        target = self._targets.pop(output.layer.index, None)
        if target is None or target.layer.label != output.layer.label:
            return
        try:
            fix = target.mend(output)
        except ValueError as reason:
            self.withheld.append(f"{target.code} at {target.layer.location or target.layer.label}: {reason}")
        else:
            self._rescaled(output, fix)

    def _rescaled(self, output: LayerOutput, fix: Fix | None) -> None:  # noqa: ARG002  (a script's repairer needs it)
        if fix is not None:
            self.applied.append(fix)

    def before_activation(self, trace: Trace, handover: Handover, function: Activation) -> Tensor | None:
        """Rescale a layer that is unscaled or saturates a bounded function; see `fixes.rescale_weights`."""
        layer, weight = handover.layer, handover.weight
        before = summarise(handover.value).std
        if layer.fan_in is None or before <= TARGET_STD:
            return None  # small layers are judged by what stands around them, which a forward pass cannot see
        unscaled = is_unscaled(summarise(weight).rms, layer.fan_in, function.gain, before)
        saturated = 100 * summarise(handover.value, interval=function.interval).outside_fraction
        if not unscaled and not (function.bounded and saturated > MAX_SATURATED):
            return None
        if self._refuses(trace, handover, "rescale-weights"):
            return None
        factor = rescale(weight, handover.biases, before)
        value = _again(handover)
        names = _names(trace, handover)
        self._changed.append((weight, ", ".join(names)))
        self.applied.append(
            Fix(
                "rescale-weights",
                "I002" if unscaled else "A001",
                Applicability.UNSAFE,
                ", ".join(names) or layer.label,
                layer.location,
                "pre-activation std",
                "1",
                before,
                summarise(value).std,
                "\n".join(snippet.multiplied(snippet.parameters(trace, names), factor)),
            )
        )
        return value

    def after_first_pass(self, network: LiveNetwork) -> None:
        """See whether a mended parameter turned out to be used in another place too."""
        for parameter, name in self._changed:
            if network.uses(parameter) > 1:
                self.withheld.append(f"{name} is used in another place too, which the repair has changed as well")
        self._changed.clear()

    def after_update(self, network: LiveNetwork, step: int) -> None:
        """Nothing: all is done within the first pass."""

    def before_loss(
        self,
        trace: Trace,
        handover: Handover,
        loss: Callable[[Tensor], Tensor],
        baseline: float | None,
        target: Tensor | None,
    ) -> Tensor | None:
        """Shrink an overconfident output layer; see `fixes.shrink_output_layer`."""
        if baseline is None:
            return None
        before = float(loss(handover.value.detach()).double().mean())
        if not is_overconfident(before, baseline) or self._refuses(trace, handover, "shrink-output-layer"):
            return None
        factor = shrink(handover.weight, handover.biases, _logit_std(handover))
        op, bias = handover.consumer.op, handover.biases[0] if handover.biases else None
        prior = log_prior(target, bias.numel(), op) if target is not None and bias is not None else None
        if bias is not None and prior is not None:
            bias.data.copy_(prior.reshape(bias.shape))
        value = _again(handover)
        names = _names(trace, handover)
        self._changed.append((handover.weight, ", ".join(names)))
        lines = snippet.multiplied(snippet.parameters(trace, names[:1]), factor)
        biases = [snippet.parameter(trace, name) for name in names[1:]]
        self.applied.append(
            Fix(
                "shrink-output-layer",
                "L001",
                Applicability.UNSAFE,
                ", ".join(names) or handover.layer.label,
                handover.layer.location,
                f"starting loss (baseline {baseline:.4f})",
                "nat",
                before,
                float(loss(value.detach()).double().mean()),
                "\n".join([*lines, *_bias_lines(biases, prior, handover.biases)]),
            )
        )
        return value

    def _refuses(self, trace: Trace, handover: Handover, name: str) -> bool:
        reason = None
        if name not in self.names:
            self.available.append(f"{name} at {handover.layer.location or handover.layer.label}")
            return True
        if trace.facts.weights_loaded:
            reason = LOADED
        elif not handover.weight.requires_grad:
            reason = "its weights are frozen"
        elif not handover.sole_use:
            reason = "its parameters are used in another place as well"
        if reason:
            self.withheld.append(f"{name} at {handover.layer.location or handover.layer.label}: {reason}")
        return reason is not None


def _bias_lines(names: Sequence[str], prior: Tensor | None, biases: Sequence[Tensor]) -> list[str]:
    """Return how to set the biases by hand: to zero, the first to the prior where there is one."""
    lines = [f"{name}.data.zero_()" for name in names]
    if prior is not None and names:
        numbers = [round(number, 4) for number in prior.tolist()]
        lines[0] = f"{names[0]}.data.copy_(torch.tensor({numbers}).reshape({tuple(biases[0].shape)}))"
    return lines


def _again(handover: Handover) -> Tensor:
    torch.clear_autocast_cache()  # it holds the weights as they were, in lower precision
    value = handover.chain.again()
    if not isinstance(value, Tensor):
        raise TypeError(f"expected a tensor from {handover.layer.label}, got {type(value).__name__}")
    return value


def _names(trace: Trace, handover: Handover) -> list[str]:
    return [site.label for site in trace.parameters_of(handover.layer)]


def _logit_std(handover: Handover) -> float:
    """Spread of the logits as the loss sees it: about each row's mean under a softmax, about zero under a sigmoid."""
    values = handover.value.detach().double()
    if handover.consumer.op != "binary_cross_entropy_with_logits":
        values = values - values.mean(-1, keepdim=True)
    return float(values.pow(2).mean().sqrt())
