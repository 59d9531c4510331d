"""Data that enters the network: the input of a layer that nothing observed has made, and whether it repeats."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.layers import SECOND_OPERAND
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

LAYERS = frozenset({Kind.WEIGHT_LAYER, Kind.RECURRENT, Kind.NORM, Kind.EMBEDDING})
MAX_HASHED = 1 << 16  # elements of a batch whose bits are compared with the last batch's


def note_data(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Summarise float data that a layer takes from outside the network, and note the bits of any such data."""
    if site is None or site.kind not in LAYERS or recorder.replayed is not None:
        return
    given = [x for x in _candidates(call, site) if isinstance(x, Tensor) and not x.requires_grad]
    x = next((x for x in given if recorder.origins.of(x) is None), None)
    if x is None:
        return
    if x.is_floating_point():
        recorder.measure_data(site, x, _unit_dim(call.op, x))
    digest = bits(x)
    recorder.later(lambda step: recorder.trace.add_scalar(step, site.index, "data_bits", digest), site)


def _candidates(call: TorchCall, site: Site) -> tuple[Any, ...]:
    if site.kind is Kind.EMBEDDING:
        return (call.arg(1, "weight") if call.op == "__getitem__" else call.input,)
    if call.op == "addmm":
        return (call.arg(1, "mat1"),)
    if call.op in functions.MATMUL_OPS:
        return (call.input, call.arg(1, SECOND_OPERAND.get(call.op, "other")))
    return (call.input,)


def _unit_dim(op: str, x: Tensor) -> int:
    """Return the dimension of the features: channels of convolutions and batch norms, else the last."""
    dims = functions.CONVOLUTIONS.get(op)
    if dims is not None:
        return -dims - 1
    return 1 - x.dim() if op in ("batch_norm", "group_norm", "instance_norm") and x.dim() > 1 else -1


def bits(x: Tensor) -> float:
    """Return a number in 0 … 2^32 - 1 made from shape and bits of a batch (of its first `MAX_HASHED` elements)."""
    part = x.detach().reshape(-1)[:MAX_HASHED].cpu().contiguous()
    if part.dtype == torch.bfloat16:
        part = part.view(torch.int16)
    return float(zlib.crc32(part.numpy().tobytes(), hash(tuple(x.shape)) & 0xFFFFFFFF))


LAYER_OPS = (
    *functions.WEIGHT_OPS,
    *functions.MATMUL_OPS,
    *functions.RECURRENT_OPS,
    *functions.NORM_OPS,
    *functions.EMBEDDING_OPS,
)
LOOKS = dict.fromkeys(LAYER_OPS, note_data)
