"""What a loss call is given: the scale of its predictions and targets, and the counts of its labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.probes.data import bits
from unstuck.capture.recorder import Recorder
from unstuck.trace import Site

MAX_CLASSES = 4096  # beyond them labels are not counted one by one


def note_predictions_and_targets(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Summarise the predictions (role INPUT of the loss's site) and write what the targets are like as scalars.

    `target_min`, `target_max`, `target_mean`, `target_std` (0 for one element) of the finite elements,
    `target_elements`, `target_bits`; for integer targets of a classification also the vectors `label_counts` and
    `predicted_counts`, shape (classes,).
    """
    predictions, target = call.input, call.arg(1, "target")
    if site is None or not isinstance(predictions, Tensor) or recorder.replayed is not None:
        return
    if predictions.is_floating_point():
        recorder.measure_data(site, predictions, None)
    if not isinstance(target, Tensor) or not target.numel():
        return
    numbers = _scale(target.detach())
    vectors = _label_counts(call, predictions.detach(), target.detach())

    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)
        for name, counts in vectors.items():
            recorder.trace.add_vector(step, site.index, name, counts.numpy())

    recorder.later(write, site)


def _scale(target: Tensor) -> dict[str, float]:
    values = target.double() if not target.is_complex() else target.abs().double()
    finite = values[values.isfinite()]
    numbers = {"target_elements": float(target.numel()), "target_bits": bits(target)}
    if finite.numel():
        std = float(finite.std(correction=0))
        low, high = torch.aminmax(finite)
        numbers |= {
            "target_min": float(low),
            "target_max": float(high),
            "target_mean": float(finite.mean()),
            "target_std": std,
        }
    return numbers


def _label_counts(call: TorchCall, predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return how often each class is the label, and how often it is predicted; {} when targets are no class numbers."""
    if call.op not in ("cross_entropy", "nll_loss") or target.is_floating_point() or not predictions.dim():
        return {}
    dim = 1 if predictions.dim() > 1 else 0
    classes = predictions.shape[dim]
    labels = target[(target >= 0) & (target < classes)].flatten()
    if classes > MAX_CLASSES or not labels.numel():
        return {}
    guesses = predictions.argmax(dim).flatten()
    return {
        "label_counts": torch.bincount(labels.long(), minlength=classes).cpu(),
        "predicted_counts": torch.bincount(guesses, minlength=classes).cpu(),
    }


LOOKS = dict.fromkeys(functions.LOSSES, note_predictions_and_targets)
