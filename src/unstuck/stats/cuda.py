"""Summaries of CUDA tensors without waiting for the device: one pass in Triton (see `cuda_kernels.py`).

`summarise_async` enqueues the pass on the current stream and returns a handle; `collect` brings any number of handles
to the host in one copy through pinned memory, and is the only place that waits. Sums run in float64 and are merged in
a fixed order, so results do not vary from run to run. They equal those of `reference.py`: counts, extremes and
histogram exactly, sums to rounding. Importing this module does not import Triton.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.stats.cpu import limits_in
from unstuck.stats.layout import Shape, laid_out
from unstuck.stats.summary import BINS, TensorSummary, UnitSummary

Array = npt.NDArray[np.int64]

SUPPORTED = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
PROGRAMS_PER_MULTIPROCESSOR = 4
WIDE_FROM = 1 << 28  # elements; from here on, offsets are computed in 64 bits
WARPS = 4
TILES = {2: (2, 1024), 4: (4, 512), 8: (4, 256)}
"""Bytes of an element -> (loads in flight, accumulators): each load takes 16 bytes a thread."""
REGISTERS = {"maxnreg": 168} if torch.version.cuda else {}
"""Lets three programs share a multiprocessor; float32 spills none with it. ROCm has no such option."""


@cache
def available() -> bool:
    """Say whether Triton can be imported, without importing it."""
    return find_spec("triton") is not None


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A summary that is being computed; `collect` waits for it.

    `packed` holds, on the device, int64 of shape (2 * BINS + FACTS * units,): the histogram, then the facts of
    each unit in the order of `cuda_kernels.FACTS`.
    """

    packed: Tensor
    units: int
    unit_count: int
    with_units: bool
    stream: torch.cuda.Stream | None


def summarise(x: Tensor, *, unit_dim: int | None = None, interval: tuple[float, float] | None = None) -> TensorSummary:
    """Summarise a tensor and wait for the result; arguments and result as `reference.summarise`, errors as below."""
    return collect([summarise_async(x, unit_dim=unit_dim, interval=interval)])[0]


def summarise_async(x: Tensor, *, unit_dim: int | None = None, interval: tuple[float, float] | None = None) -> Pending:
    """Enqueue the summary of a CUDA tensor on the current stream, without waiting for it.

    `x` may be freed or overwritten on this stream afterwards. One that is not dense is copied first, on the device.
    Raises TypeError for a dtype not in `SUPPORTED`, ValueError for a tensor that is not on a CUDA device, ImportError
    where Triton is missing, and IndexError for a `unit_dim` out of range.
    """
    if x.dtype not in SUPPORTED:
        raise TypeError(f"cuda.summarise reads float16, bfloat16, float32 and float64, not {x.dtype}")
    from unstuck.stats import cuda_kernels as kernels  # Triton takes a second to load

    flat, (outer, units, inner), _ = laid_out(x, unit_dim)
    with _on(x.device):
        packed = torch.zeros(2 * BINS + kernels.FACTS * units, dtype=torch.int64, device=x.device)
        if flat.numel():
            _launch(flat, (outer, units, inner), packed, interval or (-math.inf, math.inf))
        stream = torch.cuda.current_stream(x.device) if x.is_cuda else None
    return Pending(packed, units, outer * inner if units else 0, unit_dim is not None and x.dim() > 0, stream)


def collect(pending: Sequence[Pending]) -> list[TensorSummary]:
    """Return the summaries in the order of their handles: for each device one copy, and one wait for its stream."""
    by_device: dict[torch.device, list[int]] = {}
    for k, handle in enumerate(pending):
        by_device.setdefault(handle.packed.device, []).append(k)
    summaries: dict[int, TensorSummary] = {}
    for indices in by_device.values():
        handles = [pending[k] for k in indices]
        ends = np.cumsum([len(handle.packed) for handle in handles])[:-1]
        for k, handle, row in zip(indices, handles, np.split(_to_host(handles), ends), strict=True):
            summaries[k] = _as_summary(row, handle)
    return [summaries[k] for k in range(len(pending))]


def _on(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # the CPU is Triton's interpreter


@cache
def _programs(device: torch.device) -> int:
    """Number of programs that keep `device` busy."""
    if device.type != "cuda":
        return PROGRAMS_PER_MULTIPROCESSOR
    return PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


@lru_cache(maxsize=1024)
def _limit_bits(interval: tuple[float, float], double: bool) -> tuple[int, int]:
    """Return the bits of the ends of an interval; in float32, of the outermost numbers that lie inside it."""
    floats, bits = (np.float64, np.int64) if double else (np.float32, np.int32)
    lower, upper = np.array(limits_in(floats, interval), dtype=floats).view(bits).tolist()
    return lower, upper


def _launch(flat: Tensor, shape: Shape, packed: Tensor, interval: tuple[float, float]) -> None:
    """Enqueue the pass over `flat`, and the merge of its splits where there are several."""
    from unstuck.stats import cuda_kernels as kernels

    outer, units, inner = shape
    extent = outer * inner
    if units > 1 and inner == 1:
        how = kernels.FEATURES_LAST
    elif units == 1 or outer == 1:
        how, inner = kernels.ONE_RUN, extent
    else:
        how = kernels.CHANNELS_FIRST
    double = flat.dtype == torch.float64
    depth, slots = TILES[flat.element_size()]
    columns = slots if units == 1 else 32 if (units if how == kernels.FEATURES_LAST else extent) <= 512 else 128
    rows = slots // columns
    width, step = (columns, depth * rows) if how == kernels.FEATURES_LAST else (rows, depth * columns)
    blocks = -(-units // width)
    splits = min(-(-extent // step), max(1, _programs(flat.device) // blocks))
    histogram, facts = packed, packed[2 * BINS :]
    parts = facts if splits == 1 else facts.new_empty(splits * len(facts))
    values = flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat
    kernels.summarise_tiles[(blocks, splits)](
        values,
        parts,
        histogram,
        *_limit_bits(interval, double),
        units,
        inner,
        extent,
        HOW=how,
        WIDE=flat.numel() >= WIDE_FROM,
        DOUBLE=double,
        DEPTH=depth,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=WARPS,
        **REGISTERS,
    )
    if splits > 1:
        kernels.merge_splits[(-(-units // kernels.MERGED),)](parts, facts, splits, units, num_warps=WARPS)


def _to_host(handles: Sequence[Pending]) -> Array:
    """Return the packed results of one device, one after another, in host memory."""
    device = handles[0].packed.device
    if device.type != "cuda":
        return np.asarray(torch.cat([handle.packed for handle in handles]).numpy())
    with _on(device):
        current = torch.cuda.current_stream()
        for stream in {handle.stream for handle in handles if handle.stream is not None} - {current}:
            current.wait_stream(stream)
        for handle in handles:
            if handle.stream != current:
                handle.packed.record_stream(current)
        gathered = torch.cat([handle.packed for handle in handles])
        host = torch.empty(gathered.shape, dtype=torch.int64, device="cpu", pin_memory=True)
        host.copy_(gathered, non_blocking=True)
        current.record_event().synchronize()
    return np.asarray(host.numpy())


@np.errstate(over="ignore", invalid="ignore")  # sums of values near the largest float64 overflow
def _as_summary(row: Array, handle: Pending) -> TensorSummary:
    """Read one packed result; everything is copied, so that nothing keeps the pinned memory."""
    from unstuck.stats import cuda_kernels as kernels

    facts = row[2 * BINS :].reshape(kernels.FACTS, handle.units)
    total, squares, minimum, maximum = facts[:4].copy().view(np.float64)
    zeros, outside, nonfinite = facts[4:].copy()
    if handle.unit_count == 0:
        minimum, maximum = np.full(handle.units, np.inf), np.full(handle.units, -np.inf)
    units = UnitSummary(handle.unit_count, total, squares, minimum, maximum, zeros, outside, nonfinite)
    return TensorSummary(
        handle.unit_count * handle.units,
        int(nonfinite.sum()),
        int(zeros.sum()),
        int(outside.sum()),
        float(total.sum()),
        float(squares.sum()),
        float(minimum.min(initial=math.inf)),
        float(maximum.max(initial=-math.inf)),
        row[: 2 * BINS].reshape(2, BINS).copy(),
        units if handle.with_units else None,
    )
