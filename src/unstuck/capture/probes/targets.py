"""What a loss call is given: the scale of its predictions and targets, and the counts of its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.probes.data import bits
from unstuck.capture.recorder import Recorder
from unstuck.trace import Site, Trace

MAX_CLASSES = 4096  # beyond them labels are not counted one by one
Counts = npt.NDArray[np.int64]


def note_predictions_and_targets(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Summarise the predictions (role INPUT of the loss's site) and write what the targets are like as scalars.

    `target_min`, `target_max`, `target_mean`, `target_std` (0 for one element) of the finite elements,
    `target_elements`, `target_bits`, `weighted` (whether classes have weights, 1 or 0); for integer targets of a
    classification also the vectors `label_counts` and `predicted_counts`, shape (classes,), of the labels that are not
    ignored. Where a site is called several times in a step, the extremes and the counts are those of all calls
    together, the rest those of the last.
    """
    predictions, target = call.input, call.arg(1, "target")
    if site is None or not isinstance(predictions, Tensor) or recorder.replayed is not None:
        return
    if predictions.is_floating_point():
        recorder.measure_data(site, predictions, None)
    if not isinstance(target, Tensor) or not target.numel() or target.is_meta or target.layout is not torch.strided:
        return
    numbers = _scale(target.detach()) | {"weighted": float(_is_weighted(call))}
    vectors = _label_counts(call, predictions.detach(), target.detach())

    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, _with_earlier(recorder.trace, site, step, name, value))
        for name, counts in vectors.items():
            earlier = recorder.trace.vector(site, name, step)
            together = counts if earlier is None or len(earlier) != len(counts) else counts + earlier
            recorder.trace.add_vector(step, site.index, name, together)

    recorder.later(write, site)


def _with_earlier(trace: Trace, site: Site, step: int, name: str, value: float) -> float:
    earlier = trace.scalar(site, name, step)
    if earlier is None:
        return value
    return {"target_min": min(earlier, value), "target_max": max(earlier, value)}.get(name, value)


def _scale(target: Tensor) -> dict[str, float]:
    numbers = {"target_elements": float(target.numel())}
    if (digest := bits(target)) is not None:
        numbers["target_bits"] = digest
    values = target.double() if not target.is_complex() else target.abs().double()
    finite = values[values.isfinite()]
    if finite.numel():
        low, high = torch.aminmax(finite)
        std, mean = torch.std_mean(finite, correction=0)
        names = ("target_min", "target_max", "target_mean", "target_std")
        numbers |= dict(zip(names, torch.stack((low, high, mean, std)).tolist(), strict=True))
    return numbers


def _is_weighted(call: TorchCall) -> bool:
    likelihood = call.op == "nll_loss" or "cross_entropy" in call.op
    return likelihood and any(isinstance(w, Tensor) for w in (call.arg(2, "weight"), call.kwargs.get("pos_weight")))


def _label_counts(call: TorchCall, predictions: Tensor, target: Tensor) -> dict[str, Counts]:
    """Return how often each class is the label, and how often it is predicted; {} when targets are no class numbers."""
    if call.op not in ("cross_entropy", "nll_loss") or target.is_floating_point() or not predictions.dim():
        return {}
    dim = 1 if predictions.dim() > 1 else 0
    classes = predictions.shape[dim]
    ignored = call.arg(4, "ignore_index")
    counted = (target >= 0) & (target < classes) & (target != (-100 if ignored is None else ignored))
    if classes > MAX_CLASSES or not counted.any():
        return {}
    labels, guesses = target[counted].long(), predictions.argmax(dim)
    if guesses.shape == counted.shape:
        guesses = guesses[counted]
    return {
        "label_counts": torch.bincount(labels.flatten(), minlength=classes).cpu().numpy(),
        "predicted_counts": torch.bincount(guesses.flatten(), minlength=classes).cpu().numpy(),
    }


SELDOM = True
LOOKS = dict.fromkeys(functions.LOSSES, note_predictions_and_targets)
