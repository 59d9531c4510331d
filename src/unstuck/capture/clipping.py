"""Clipping of gradients by their norm: how much each call takes away, and whether AMP's loss scale is still in them.

`torch.nn.utils.clip_grad_norm_` looks up the function that scales the gradients when it is called, so that one patch
sees every call, however the program has imported it. `GradScaler.unscale_` tells when the scale is taken out
(https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping).
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad

from unstuck.capture.compiled import uncompiled
from unstuck.capture.recorder import Recorder
from unstuck.capture.site import location_of
from unstuck.trace import Kind

EPSILON = 1e-6  # that torch adds to the norm


class ClippingPatches:
    """Installed while the gradients of a sampled step may be clipped; tells of each call of `clip_grad_norm_`."""

    def __init__(self, clipped: Callable[[float, Tensor], None], unscaled: Callable[[], None]) -> None:
        self._clipped = clipped
        self._unscaled = unscaled
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Install; harmless when installed."""
        if self._undo:
            return
        for owner, name in ((clip_grad, "_clip_grads_with_norm_"), (torch.nn.utils, "clip_grads_with_norm_")):
            self._patch(owner, name, self._around_clip)
        self._patch(GradScaler, "unscale_", self._around_unscale)

    def remove(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    def _patch(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(owner, name, None)
        if original is not None:
            setattr(owner, name, wrap(original))
            self._undo.append(lambda: setattr(owner, name, original))

    def _around_clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def clip(parameters: Any, max_norm: float, total_norm: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._clipped(max_norm, total_norm)
            return original(parameters, max_norm, total_norm, *args, **kwargs)

        return clip

    def _around_unscale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def unscale(*args: Any, **kwargs: Any) -> Any:
            self._unscaled()
            return original(*args, **kwargs)

        return unscale


def note_clip(recorder: Recorder, step: int, max_norm: float, total_norm: Tensor, scale: float) -> None:
    """Note a clipping call: its place, the norm it found and by what it multiplies.

    Scalars `clip_coefficient` (1 when nothing is clipped; of several calls from one line the largest), `clip_norm`,
    `clip_bound` and `clip_scale`, AMP's factor in those gradients. Norms that are no plain tensors (of gradients that
    are spread over processes) or not finite are left alone.
    """
    if type(total_norm) is not Tensor or total_norm.numel() != 1:
        return
    norm, bound = float(total_norm.detach()), float(max_norm)
    if not math.isfinite(norm):
        return
    frame = recorder.locator.frame(sys._getframe())
    location = location_of(frame)
    key = ("clipping", location)
    site = recorder.sites.get(key) or recorder.sites.create(key, Kind.CLIPPING, "clip_grad_norm_", "", location)
    coefficient = min(1.0, bound / (norm + EPSILON))
    earlier = recorder.trace.scalar(site, "clip_coefficient", step)
    if earlier is not None and earlier >= coefficient:
        return
    numbers = {"clip_coefficient": coefficient, "clip_norm": norm, "clip_bound": bound, "clip_scale": scale}
    for name, value in numbers.items():
        recorder.trace.add_scalar(step, site.index, name, value)
