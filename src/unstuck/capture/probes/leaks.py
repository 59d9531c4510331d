"""Whether what a loss asks for is among what the network was given in the same pass."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.probes.data import LAYER_OPS, LAYERS, candidates
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

MAX_GIVEN = 16  # tensors of a pass
MAX_COMPARED = 1 << 20  # elements
TAKES_CLASSES = ("cross_entropy", "nll_loss")
SHIFTED = 0.9  # of a decoder's inputs are the targets, one position later


def _given(recorder: Recorder) -> list[tuple[Site, Tensor]]:
    given: list[tuple[Site, Tensor]] = recorder.notes.setdefault("given", [])
    return given


def remember(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Keep, until the pass ends, what a layer takes from outside the network."""
    if site is None or site.kind not in LAYERS or recorder.replayed is not None or len(_given(recorder)) >= MAX_GIVEN:
        return
    for x in candidates(call, site):
        if isinstance(x, Tensor) and not x.requires_grad and recorder.origins.of(x) is None:
            _given(recorder).append((site, x.detach()))
            return


def compare(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write what targets and data have in common.

    - `identity_share` (of the targets that count, those equal to what an embedding got at the same position),
      `identity_embedding` (its index), `identity_length` (the smaller dimension of the ids) and `identity_shifted` (1
      when an embedding got them one position later).
    - `target_is_data` (0 or 1), of float targets.
    - At step 0 `target_among_data` (the share of a float target's elements that are somewhere in the data),
      `target_distinct` (the share that occurs once) and `rows_repeated` (see `_rows_repeated`).
    """
    target = call.arg(1, "target")
    if site is None or recorder.replayed is not None or not isinstance(target, Tensor) or not target.numel():
        return
    target, numbers = target.detach(), {}
    floats = [x for _, x in _given(recorder) if x.is_floating_point()]
    if call.op in TAKES_CLASSES and not target.is_floating_point():
        numbers = _identity(recorder, call, target)
    elif target.is_floating_point():
        same = [x for x in floats if x.numel() == target.numel() and x.dtype == target.dtype]
        flat = target.flatten()
        numbers["target_is_data"] = float(any(torch.equal(x.flatten(), flat) for x in same))
    if recorder.at_start:
        numbers |= _at_start(floats, target)

    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


def _identity(recorder: Recorder, call: TorchCall, target: Tensor) -> dict[str, float]:
    flat = target.flatten()
    counted = (flat != call.kwargs.get("ignore_index", -100)) & (flat >= 0)
    numbers: dict[str, float] = {}
    for source, ids in _given(recorder):
        sequences = source.kind is Kind.EMBEDDING and not ids.is_floating_point() and ids.dim() == 2
        if not sequences or ids.numel() != flat.numel() or ids.shape[1] < 2 or not bool(counted.any()):
            continue
        share = max(_share(x.flatten() == flat, counted) for x in _orders(ids, target))
        shifted = max(_share(a == b, a >= 0) for a, b in _one_later(ids, target))
        if share >= numbers.get("identity_share", 0.0):
            numbers |= {"identity_share": share, "identity_embedding": float(source.index)}
            numbers["identity_length"] = float(min(ids.shape))
        numbers["identity_shifted"] = max(numbers.get("identity_shifted", 0.0), float(shifted > SHIFTED))
    return numbers


def _orders(ids: Tensor, target: Tensor) -> list[Tensor]:
    """Return the ids in the orders in which a target may be flattened: as they are, and the other dimension first."""
    if target.dim() < 2:
        return [ids, ids.T]
    return [x for x in (ids, ids.T) if x.shape == target.shape] or [ids]


def _one_later(ids: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = target.reshape(ids.shape)
    columns = target.reshape(ids.T.shape).T
    return [(rows[:, :-1], ids[:, 1:]), (columns[:-1], ids[1:]), (rows[:-1], ids[1:]), (columns[:, :-1], ids[:, 1:])]


def _share(equal: Tensor, counted: Tensor) -> float:
    n = int(counted.sum())
    return float((equal & counted).sum()) / n if n else 0.0


def _at_start(floats: list[Tensor], target: Tensor) -> dict[str, float]:
    floats = [x for x in floats if x.numel() and x.layout is torch.strided and not x.is_meta]
    if not floats or sum(x.numel() for x in floats) > MAX_COMPARED:
        return {}
    numbers = {"rows_repeated": _rows_repeated(floats)}
    alike = [x.flatten() for x in floats if x.dtype == target.dtype and x.device == target.device]
    if alike and target.numel() <= MAX_COMPARED:
        flat = target.flatten()
        _, times = flat.unique(return_counts=True)  # type: ignore[no-untyped-call]
        numbers["target_among_data"] = float(torch.isin(flat, torch.cat(alike)).double().mean())
        numbers["target_distinct"] = float((times == 1).sum()) / flat.numel()
    return numbers


def _rows_repeated(floats: list[Tensor]) -> float:
    """Return the largest share of one tensor's rows that are, elsewhere, among another's.

    Tensors that agree row by row are the same data given twice, and share nothing in this sense.
    """
    tables = [x.reshape(len(x), -1) for x in floats if x.dim() > 1 and len(x) > 1]
    most = 0.0
    for a, b in combinations(tables, 2):
        if a.shape[1] != b.shape[1] or a.dtype != b.dtype or a.device != b.device:
            continue
        fewer, more = sorted((_keys(a), _keys(b)), key=len)
        if bool((fewer == more[: len(fewer)]).double().mean() < 0.5) or len(fewer) < len(more):
            distinct = fewer.unique()  # type: ignore[no-untyped-call]
            if len(distinct) > len(fewer) / 2:
                most = max(most, float(torch.isin(distinct, more).double().mean()))
    return most


def _keys(rows: Tensor) -> Tensor:
    """Return a number for each row, int64 of shape (rows,), made from its bits."""
    words = rows.contiguous().view(torch.uint8).to(torch.int64)
    factors = torch.arange(1, words.shape[1] + 1, device=rows.device) * 2654435761 | 1
    mixed = (words + 1) * factors
    return (mixed ^ (mixed >> 29)).mul(factors).sum(1)


def note_hidden(recorder: Recorder, call: TorchCall, _out: Any, _site: Site | None) -> None:
    """Write `hidden` (1) of an embedding some of whose output is replaced, or multiplied by zero."""
    sites = recorder.origins.union(tensors_in(call.args))
    embeddings = [i for i in sites if recorder.trace.sites[i].kind is Kind.EMBEDDING]
    if not embeddings or (call.op in PRODUCTS and not any(_is_mask(recorder, x) for x in tensors_in(call.args))):
        return

    def write(step: int) -> None:
        for index in embeddings:
            recorder.trace.add_scalar(step, index, "hidden", 1.0)

    recorder.later(write)


def _is_mask(recorder: Recorder, x: Tensor) -> bool:
    return not x.requires_grad and recorder.origins.of(x) is None and bool((x == 0).any())


PRODUCTS = ("mul", "__mul__", "__rmul__", "__imul__", "multiply")
REPLACING = (
    "where",
    "masked_fill",
    "masked_scatter",
    "__setitem__",
    "index_put",
    "index_fill",
    "index_copy",
    "scatter",
)
SELDOM = True
LOOKS = (
    dict.fromkeys(LAYER_OPS, remember)
    | dict.fromkeys(functions.LOSSES, compare)
    | dict.fromkeys((*PRODUCTS, *REPLACING), note_hidden)
)
