"""Hands a weight layer over to a repairer: before its output is consumed at step 0, or when it has made it."""

from __future__ import annotations

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.intervention import Handover, LayerOutput
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site


def handover(recorder: Recorder, consumer: Site, value: Tensor) -> Handover | None:
    """Describe the weight layer that made `value`, when a repair may change it and make `value` again."""
    origin = recorder.origins.of(value)
    if not recorder.repairing or origin is None or origin.replay is None or not origin.sites:
        return None
    layer = _layer_behind(recorder, recorder.trace.sites[origin.sites[0]])
    held = None if layer is None else _parameters(recorder, layer)
    if layer is None or held is None:
        return None
    weight, biases = held
    return Handover(layer, consumer, value, weight, biases, _sole_use(recorder, weight, biases), origin.replay)


def note_mended(recorder: Recorder, handed: Handover) -> None:
    """Measure the output of a layer again, whose parameters a repairer has changed."""
    with torch.no_grad():
        recorder.renew_output(handed.layer, handed.chain.first.again())


def hand_over_output(
    recorder: Recorder, layer: Site, value: Tensor, unit_dim: int, call: TorchCall, *, includes_bias: bool
) -> None:
    """Show what a layer has made to a repairer that waits for it."""
    repairer = recorder.intervention
    held = _parameters(recorder, layer) if repairer is not None and recorder.awaited else None
    if repairer is not None and held is not None:
        sole, chain = _sole_use(recorder, *held), recorder.replay(call)
        repairer.after_layer(LayerOutput(layer, recorder.step, value, *held, includes_bias, unit_dim, sole, chain))


def _sole_use(recorder: Recorder, weight: Tensor, biases: tuple[Tensor, ...]) -> bool:
    uses = recorder.parameters.uses
    return all(uses(parameter) == 1 for parameter in (weight, *biases)) and not recorder.modules.is_shared(weight)


def _parameters(recorder: Recorder, layer: Site) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Return the live weight and biases of a layer that has one weight."""
    live = [(recorder.trace.sites[i].slot, recorder.parameters.live(i)) for i in layer.parameters]
    weights = [p for slot, p in live if slot == "weight" and p is not None]
    biases = tuple(p for slot, p in live if slot == "bias" and p is not None)
    return (weights[0], biases) if len(weights) == 1 else None


def _layer_behind(recorder: Recorder, site: Site) -> Site | None:
    """Return the weight layer at `site`, or right before it when `site` is a softmax."""
    if site.kind is Kind.SOFTMAX:
        producers = recorder.trace.producers(site)
        site = producers[0] if len(producers) == 1 else site
    return site if site.kind is Kind.WEIGHT_LAYER else None
