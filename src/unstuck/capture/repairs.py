"""Hands a weight layer over to a repairer just before its output is consumed at step 0."""

from __future__ import annotations

from torch import Tensor

from unstuck.capture.intervention import Handover
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site


def handover(recorder: Recorder, consumer: Site, value: Tensor) -> Handover | None:
    """Describe the weight layer that made `value`, when a repair may change it and make `value` again."""
    origin = recorder.origins.of(value)
    if not recorder.repairing or origin is None or origin.replay is None or not origin.direct or not origin.sites:
        return None
    layer = _layer_behind(recorder, recorder.trace.sites[origin.sites[0]])
    if layer is None:
        return None
    parameters = recorder.parameters
    live = [(recorder.trace.sites[i].slot, parameters.live(i)) for i in layer.parameters]
    weights = [p for slot, p in live if slot == "weight" and p is not None]
    if len(weights) != 1:
        return None
    biases = tuple(p for slot, p in live if slot == "bias" and p is not None)
    sole = all(parameters.uses(p) == 1 for p in (*weights, *biases)) and not recorder.modules.is_shared(weights[0])
    return Handover(layer, consumer, value, weights[0], biases, sole, origin.replay)


def _layer_behind(recorder: Recorder, site: Site) -> Site | None:
    """Return the weight layer at `site`, or right before it when `site` is a softmax."""
    if site.kind is Kind.SOFTMAX:
        producers = recorder.trace.producers(site)
        site = producers[0] if len(producers) == 1 else site
    return site if site.kind is Kind.WEIGHT_LAYER else None
