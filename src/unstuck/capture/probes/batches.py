"""Whether the data of a pass was drawn from more: a loader of several batches, or a tensor that holds much more."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.trace import Site

LEAST_SHARE = 4  # times; a training split taken out of all the data is more than a quarter of it
ROWS = "numbers of rows that were drawn from something larger"


def note_loaded(recorder: Recorder, iterator: Any, batch: Any) -> None:
    """Notice a batch that an iterator of a `torch.utils.data.DataLoader` has given, if it is one of several."""
    try:
        several = len(iterator) > 1
    except (TypeError, NotImplementedError):  # a stream, or a sampler that does not say how long it is
        return
    rows = {tensor.shape[0] for tensor in tensors_in((batch,)) if tensor.dim()}
    known = recorder.notes.setdefault(ROWS, set())
    known.update(rows) if several else known.difference_update(rows)


def note_selection(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Notice rows of data that are taken out of a tensor by a slice or by their numbers."""
    whole = call.input
    index = call.arg(2, "index") if call.op == "index_select" else call.arg(1, "index")
    if not isinstance(index, slice | list | Tensor) or not isinstance(whole, Tensor) or not isinstance(out, Tensor):
        return
    if whole.requires_grad or recorder.origins.of(whole) is not None or not out.dim():
        return
    if 0 < out.numel() * LEAST_SHARE <= whole.numel():
        recorder.notes.setdefault(ROWS, set()).add(out.shape[0])


def drawn(recorder: Recorder, x: Tensor) -> bool:
    """Tell whether `x` is as long as what was drawn: a batch may be scaled, cast and moved before it is used."""
    return x.dim() > 0 and x.shape[0] in recorder.notes.get(ROWS, ())


SELDOM = True
LOOKS = {"__getitem__": note_selection, "index_select": note_selection}
