"""Handlers of layers with parameters: linear maps, convolutions, embeddings, normalisations."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import Origin, tensors_in
from unstuck.capture.passing import after_part, after_transparent
from unstuck.capture.recorder import Recorder
from unstuck.capture.repairs import hand_over_output
from unstuck.trace import Kind

SECOND_OPERAND = {"mm": "mat2", "bmm": "mat2", "mv": "vec", "grouped_mm": "mat_b", "_grouped_mm": "mat2"}
Operands = tuple[Tensor, Tensor, Any, bool]


def after_weight_layer(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a weight layer: a linear map or convolution, or a matrix product with a parameter."""
    found = _operands(recorder, call)
    if found is None or not isinstance(out, Tensor):
        return False
    x, weight, bias, on_right = found
    leaf, transposed = recorder.parameters.leaf_of(weight, recorder.origins)
    if leaf is None and call.op in functions.MATMUL_OPS:
        return False
    site = recorder.site(Kind.WEIGHT_LAYER, call.op)
    site.fan_in = fan_in(call.op, weight, on_right)
    recorder.connect(site, x)
    if leaf is not None:
        recorder.parameters.use(leaf, site, "weight", weight_unit_dim(call.op, weight, on_right, transposed))
    bias_leaf, _ = recorder.parameters.leaf_of(bias, recorder.origins)
    if bias_leaf is not None:
        recorder.parameters.use(bias_leaf, site, "bias", 0)
    dims = functions.CONVOLUTIONS.get(call.op)
    unit_dim = -1 if dims is None else -dims - 1
    hand_over_output(recorder, site, out, unit_dim, call, includes_bias=bias is not None)
    recorder.watch_output(site, out)
    recorder.origins.set(out, Origin((site.index,), unit_dim=unit_dim, replay=recorder.replay(call)))
    return True


def _operands(recorder: Recorder, call: TorchCall) -> Operands | None:
    """Return (input, weight, bias, weight on the right) of a weight layer's call, or None."""
    if call.op in functions.WEIGHT_OPS:
        first, second, third = functions.WEIGHT_OPS[call.op]
        names = ("mat1", "mat2", "input") if call.op == "addmm" else ("input", "weight", "bias")
        x, weight, bias = call.arg(first, names[0]), call.arg(second, names[1]), call.arg(third, names[2])
        if isinstance(x, Tensor) and isinstance(weight, Tensor):
            return x, weight, bias, call.op == "addmm"
        return None
    left, right = (
        call.input,
        call.arg(1, {"mm": "mat2", "bmm": "mat2", "mv": "vec", "grouped_mm": "mat_b"}.get(call.op, "other")),
    )
    if call.op == "__rmatmul__":
        left, right = right, left
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return None
    if recorder.parameters.leaf_of(right, recorder.origins)[0] is not None:
        return left, right, None, True
    return right, left, None, False


def fan_in(op: str, weight: Tensor, on_right: bool) -> int:
    """Return the number of inputs of one unit, of a weight as the call got it."""
    if op in functions.MATMUL_OPS or op == "addmm":
        if weight.dim() == 1:
            return weight.shape[0]
        return weight.shape[-2] if on_right else weight.shape[-1]
    units = weight.shape[1] if op.startswith("conv_transpose") else weight.shape[0]
    return int(weight.numel() // max(1, units))


def weight_unit_dim(op: str, weight: Tensor, on_right: bool, transposed: bool) -> int:
    """Return the dimension of the parameter whose entries are the layer's units."""
    if weight.dim() < 2:
        return 0
    if op in functions.MATMUL_OPS or op == "addmm":
        last = on_right != transposed
        return weight.dim() - 1 if last else weight.dim() - 2
    return 1 if op.startswith("conv_transpose") else 0


def after_einsum(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record an einsum in which exactly one operand is a parameter as a weight layer."""
    equation, operands = call.input, call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or not isinstance(out, Tensor) or len(operands) < 2:
        return False
    leaves = [recorder.parameters.leaf_of(operand, recorder.origins)[0] for operand in operands]
    found = [(k, leaf) for k, leaf in enumerate(leaves) if leaf is not None]
    terms, _, result = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if len(found) != 1 or len(letters) != len(operands) or "." in letters[found[0][0]]:
        return False
    k, leaf = found[0]
    summed = [size for letter, size in zip(letters[k], operands[k].shape, strict=True) if letter not in result]
    kept = [dim for dim, letter in enumerate(letters[k]) if letter in result]
    site = recorder.site(Kind.WEIGHT_LAYER, call.op)
    site.fan_in = math.prod(summed)
    recorder.connect(site, *(operand for n, operand in enumerate(operands) if n != k))
    recorder.parameters.use(leaf, site, "weight", kept[-1] if kept and leaf is operands[k] else 0)
    hand_over_output(recorder, site, out, -1, call, includes_bias=False)
    recorder.watch_output(site, out)
    recorder.origins.set(out, Origin((site.index,), replay=recorder.replay(call)))
    return True


def after_addition(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """A parameter added to a weight layer's output is that layer's bias."""
    if len(call.args) < 2 or call.kwargs or not isinstance(out, Tensor):
        return False
    for position in (0, 1):
        layer_output, bias = call.args[position], call.args[1 - position]
        origin = recorder.origins.of(layer_output)
        leaf, _ = recorder.parameters.leaf_of(bias, recorder.origins)
        if origin is None or not origin.direct or not origin.sites or leaf is None:
            continue
        site = recorder.trace.sites[origin.sites[0]]
        if site.kind is not Kind.WEIGHT_LAYER or leaf.dim() > 2 or out.shape != layer_output.shape:
            continue
        recorder.parameters.use(leaf, site, "bias", -1)
        recorder.origins.set(out, recorder.extended(origin, call, position))
        return True
    return False


def after_embedding(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a look-up in a table of parameters, by `embedding` or by indexing."""
    index, table = call.input, call.arg(1, "weight")
    if call.op == "__getitem__":
        index, table = table, index
    leaf, _ = recorder.parameters.leaf_of(table, recorder.origins)
    if leaf is None or not isinstance(out, Tensor):
        return call.op == "__getitem__" and _only_reshapes(index) and after_transparent(recorder, call, out)
    if not isinstance(index, Tensor) or index.is_floating_point() or leaf.dim() > 2:
        return after_part(recorder, call, out)  # of a stack of matrices (experts), some are chosen
    site = recorder.site(Kind.EMBEDDING, "embedding")
    recorder.parameters.use(leaf, site, "weight", 0)
    recorder.watch_output(site, out)
    recorder.origins.set(out, Origin((site.index,)))
    return True


def _only_reshapes(index: Any) -> bool:
    """Tell whether an index adds dimensions but leaves no element out."""
    return all(
        i is None or i is Ellipsis or (isinstance(i, slice) and i == slice(None))
        for i in (index if isinstance(index, tuple) else (index,))
    )


def after_norm(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a normalisation and its gain and bias."""
    x = call.input
    if not isinstance(x, Tensor) or not isinstance(out, Tensor):
        return False
    site = recorder.site(Kind.NORM, call.op, x)
    recorder.connect(site, x)
    *positions, mean_position = (*functions.NORM_OPS[call.op], 1)
    if call.func in (torch.batch_norm, torch.instance_norm):
        *positions, mean_position = functions.NATIVE_NORM_POSITIONS
    for position, slot in zip(positions, ("weight", "bias"), strict=True):
        leaf, _ = recorder.parameters.leaf_of(call.arg(position, slot), recorder.origins)
        if leaf is not None:
            recorder.parameters.use(leaf, site, slot, 0)
    running_mean = call.arg(mean_position, "running_mean") if call.op == "batch_norm" else None
    if isinstance(running_mean, Tensor):
        recorder.running_means[site.index] = weakref.ref(running_mean)
    unit_dim = -1 if call.op in ("layer_norm", "rms_norm") or x.dim() < 2 else 1 - x.dim()
    recorder.watch_output(site, out)
    recorder.origins.set(out, Origin((site.index,), unit_dim=unit_dim))
    return True


def after_recurrent(recorder: Recorder, call: TorchCall, out: Any) -> bool:
    """Record a recurrent layer or cell as one site with all its parameters; its gates are not looked into."""
    parameters = [
        leaf
        for tensor in tensors_in((call.args, call.kwargs))
        if (leaf := recorder.parameters.leaf_of(tensor, recorder.origins)[0]) is not None
    ]
    output = next(tensors_in((out,)), None)
    if not parameters or output is None:
        return False
    site = recorder.site(Kind.RECURRENT, call.op)
    recorder.connect(site, call.input)
    for parameter in parameters:
        recorder.parameters.use(parameter, site, "weight" if parameter.dim() > 1 else "bias", 0)
    recorder.watch_output(site, output)
    for tensor in tensors_in((out,)):
        recorder.origins.set(tensor, Origin((site.index,)))
    return True
