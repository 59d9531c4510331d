"""Data that enters the network: the input of a layer that nothing observed has made, and whether it repeats."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.layers import SECOND_OPERAND
from unstuck.capture.probes.batches import drawn
from unstuck.capture.recorder import Recorder
from unstuck.capture.wrappers import local
from unstuck.trace import Kind, Site

LAYERS = frozenset({Kind.WEIGHT_LAYER, Kind.RECURRENT, Kind.NORM, Kind.EMBEDDING})
MAX_HASHED = 1 << 16  # elements of a batch whose bits are compared with the last batch's


def note_data(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Summarise float data that a layer takes from outside the network, and note the bits of any such data.

    Scalars of the site: `data_bits` (see `bits`) of the last call of a step, `data_samples`, the size of its first
    dimension, `data_calls`, the number of calls with data in the step, and `data_drawn`, 1 when the data was drawn in
    this pass from something larger, else 0.
    """
    x = data_of(recorder, call, site)
    if x is None or site is None:
        return
    if x.is_floating_point():
        recorder.measure_data(site, x, _unit_dim(call, x))
    digest, fresh, samples = bits(x), float(drawn(recorder, x)), float(len(x) if x.dim() else 1)

    def write(step: int) -> None:
        trace = recorder.trace
        trace.add_scalar(step, site.index, "data_calls", (trace.scalar(site, "data_calls", step) or 0.0) + 1.0)
        trace.add_scalar(step, site.index, "data_drawn", fresh)
        trace.add_scalar(step, site.index, "data_samples", samples)
        if digest is not None:
            trace.add_scalar(step, site.index, "data_bits", digest)

    recorder.later(write, site)


def data_of(recorder: Recorder, call: TorchCall, site: Site | None) -> Tensor | None:
    """Return the data that a layer takes from outside the network, or None."""
    if site is None or site.kind not in LAYERS or recorder.replayed is not None:
        return None
    given = [x for x in candidates(call, site) if isinstance(x, Tensor) and not x.requires_grad]
    return next((x for x in given if recorder.origins.of(x) is None), None)


def candidates(call: TorchCall, site: Site) -> tuple[Any, ...]:
    """Return the arguments of a layer's call that may be its data."""
    if site.kind is Kind.EMBEDDING:
        return (call.arg(1, "weight") if call.op == "__getitem__" else call.input,)
    if call.op == "addmm":
        return (call.arg(1, "mat1"),)
    if call.op in functions.MATMUL_OPS:
        return (call.input, call.arg(1, SECOND_OPERAND.get(call.op, "other")))
    return (call.input,)


def _unit_dim(call: TorchCall, x: Tensor) -> int:
    """Return the dimension of the features: channels of convolutions and batch norms, else the last.

    In a product with the weight on the left the data has its features before its columns.
    """
    dims = functions.CONVOLUTIONS.get(call.op)
    if dims is not None:
        return -dims - 1
    if call.op in ("batch_norm", "group_norm", "instance_norm") and x.dim() > 1:
        return 1 - x.dim()
    on_right = call.op in functions.MATMUL_OPS and (call.input is not x) != (call.op == "__rmatmul__")
    return -2 if on_right and x.dim() > 1 else -1


def bits(x: Tensor) -> float | None:
    """Return a number in 0 … 2^32 - 1 made from shape and bits of a batch (of its first `MAX_HASHED` elements).

    None for what has no elements in memory (on the meta device, sparse or nested).
    """
    x = local(x.detach())
    if x.is_meta or x.layout is not torch.strided or x.is_quantized:
        return None
    shape = tuple(x.shape)
    if x.numel() > MAX_HASHED and not x.is_contiguous():
        x = x[: -(-MAX_HASHED * x.shape[0] // x.numel())]  # copies no more than is looked at
    part = x.reshape(-1)[:MAX_HASHED].cpu().resolve_conj().resolve_neg().contiguous()
    return float(zlib.crc32(part.view(torch.uint8).numpy().tobytes(), hash(shape) & 0xFFFFFFFF))


LAYER_OPS = (
    *functions.WEIGHT_OPS,
    *functions.MATMUL_OPS,
    *functions.RECURRENT_OPS,
    *functions.NORM_OPS,
    *functions.EMBEDDING_OPS,
)
SELDOM = True
LOOKS = dict.fromkeys(LAYER_OPS, note_data)
