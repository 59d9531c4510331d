"""Whether the targets of a loss are the very symbols that the network was given, or the ones that follow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.capture.wrappers import plain
from unstuck.trace import Kind, Site

LAST_STEP = 9  # step; how targets are made from inputs does not change while a network trains
MAX_EMBEDDINGS = 4  # look-ups of a pass that are compared with the targets
MAX_SYMBOLS = 1 << 16  # in a batch
MIN_PLACES = 8  # where a symbol differs from the next one, for a share of them
SEQUENCES = "symbols given to embeddings"
SHORTENED = "sizes of tensors without the last place"
CLASS_LOSSES = ("cross_entropy", "nll_loss")


class Shares(NamedTuple):
    """Of the places whose symbol differs from the next: how many have it, or the next one, as their target."""

    same: float
    following: float
    counted: float  # share of all targets that are not ignored
    embedding: int  # the site's index
    length: int  # of the sequences


def note_symbols(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Keep what an embedding looks up until the pass ends, and the sizes of what `x[:, :-1]` gives."""
    if recorder.replayed is not None or recorder.step > LAST_STEP:
        return
    index = call.arg(1, "weight") if call.op == "__getitem__" else call.input
    if site is None or site.kind is not Kind.EMBEDDING:
        if _drops_last(index) and isinstance(out, Tensor) and out.requires_grad:
            recorder.notes.setdefault(SHORTENED, set()).add(out.numel())
        return
    kept = recorder.notes.setdefault(SEQUENCES, [])
    fits = plain(index) and index.dim() in (1, 2) and 1 < index.numel() <= MAX_SYMBOLS
    if fits and index.dtype is not torch.bool and len(kept) < MAX_EMBEDDINGS:
        kept.append((index.detach(), site.index))


def _drops_last(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and part == slice(None, -1) for part in parts)


def compare_targets(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Lay the targets of a classification beside the symbols that embeddings were given.

    On the loss's site: `target_is_input` and `target_is_next_input`, shares (0 … 1) of the places whose symbol differs
    from the next one that have it, or the next one, as target (of the embedding for which the share is greatest);
    `next_embedding`, that embedding's site for the latter, `sequence_length`, the number of its symbols in a row, and
    `targets_counted`, the share of targets that are not ignored. Nothing when the sizes do not fit.
    """
    target, known = call.arg(1, "target"), recorder.notes.get(SEQUENCES)
    if site is None or not known or recorder.replayed is not None or not plain(target):
        return
    if target.is_floating_point() or target.is_complex() or not isinstance(call.input, Tensor):
        return
    target, shortened = target.detach(), call.input.numel() in recorder.notes.get(SHORTENED, ())
    ignored = call.kwargs.get("ignore_index", -100)
    laid = [list(_shares(index, target, ignored, place, shortened)) for index, place in known]
    found = [max(each, key=lambda shares: max(shares.same, shares.following)) for each in laid if each]
    if not found:
        return
    best = max(found, key=lambda shares: shares.following)
    numbers = {
        "target_is_input": max(shares.same for shares in found),
        "target_is_next_input": best.following,
        "next_embedding": float(best.embedding),
        "sequence_length": float(best.length),
        "targets_counted": best.counted,
    }

    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


def _shares(index: Tensor, target: Tensor, ignored: int, embedding: int, shortened: bool) -> Iterator[Shares]:
    """Yield the shares for each order of dimensions in which the targets may lie beside the symbols: time last, first.

    Targets that are one fewer in a row than the symbols are the ones after the first; they belong to the places before
    them only when the network's output was cut at the end (`shortened`).
    """
    for time_first in (False, True)[: index.dim()]:
        symbols = index.t() if time_first else index
        here, after = symbols[..., :-1], symbols[..., 1:]
        if symbols.shape[-1] < 2 or target.device != symbols.device:
            continue
        if target.numel() == symbols.numel():
            laid = _laid(target, symbols.shape, time_first)[..., :-1]
        elif target.numel() == here.numel() and shortened:
            laid = _laid(target, here.shape, time_first)
        else:
            continue
        counted = laid != ignored
        judged = (here != after) & counted
        places = int(judged.sum())
        if places >= MIN_PLACES:
            same, following = (float(((laid == there) & judged).sum()) / places for there in (here, after))
            yield Shares(same, following, float(counted.sum()) / counted.numel(), embedding, symbols.shape[-1])


def _laid(target: Tensor, shape: torch.Size, time_first: bool) -> Tensor:
    return target.reshape(shape[::-1]).t() if time_first else target.reshape(shape)


LOOKS = {
    **dict.fromkeys(("embedding", "__getitem__"), note_symbols),
    **dict.fromkeys(CLASS_LOSSES, compare_targets),
}
