"""Shapes: what a loss compares, over which dimension a softmax goes, and differences that broadcast by oversight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

Shape = tuple[int, ...]


def note_compared(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write the vectors `prediction_shape` and `target_shape` of a loss."""
    if site is not None and site.kind is Kind.LOSS:
        _write(recorder, site, {"prediction_shape": call.input, "target_shape": call.arg(1, "target")})


def note_softmax(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write the vector `shape` of a softmax's input and the scalar `dim`, counted from the front, that it goes over."""
    x = call.input
    if site is None or site.kind is not Kind.SOFTMAX or not isinstance(x, Tensor) or not x.dim():
        return
    dim = call.arg(1, "dim")
    if dim is None:  # torch chooses: https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
        dim = 0 if x.dim() in (1, 3) else 1
    if not isinstance(dim, int):
        return
    front = dim % x.dim()
    recorder.later(lambda step: recorder.trace.add_scalar(step, site.index, "dim", front), site)
    _write(recorder, site, {"shape": x})


def note_difference(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Make a site of (N, 1) - (N,), of which one is a layer's output and the other data: the result is (N, N).

    Its vectors are those of a loss. It counts only where backward goes through it.
    """
    if not isinstance(out, Tensor) or out.dim() != 2 or out.shape[0] != out.shape[1] or len(out) < 2:
        return
    left, right = call.input, call.arg(1, "other")
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return
    n = len(out)
    if {tuple(left.shape), tuple(right.shape)} != {(n, 1), (n,)}:
        return
    predictions, target = (left, right) if left.requires_grad else (right, left)
    origin = recorder.origins.of(predictions)
    if target.requires_grad or recorder.origins.of(target) is not None or origin is None or not origin.direct:
        return
    if not origin.sites or recorder.trace.sites[origin.sites[0]].kind is not Kind.WEIGHT_LAYER:
        return
    reached: list[bool] = []
    out.register_hook(lambda _: reached.append(True))  # type: ignore[no-untyped-call]
    site = recorder.site(Kind.OPERATION, call.op)
    _write(recorder, site, {"prediction_shape": predictions, "target_shape": target}, lambda: bool(reached))


def _write(
    recorder: Recorder, site: Site, tensors: Mapping[str, Any], counts: Callable[[], bool] = lambda: True
) -> None:
    shapes: dict[str, Shape] = {name: tuple(x.shape) for name, x in tensors.items() if isinstance(x, Tensor)}

    def write(step: int) -> None:
        for name, shape in shapes.items() if counts() else ():
            recorder.trace.add_vector(step, site.index, name, shape)

    recorder.later(write, site)


SELDOM = True
LOOKS = (
    dict.fromkeys(functions.LOSSES, note_compared)
    | dict.fromkeys(functions.SOFTMAX_OPS, note_softmax)
    | dict.fromkeys(("sub", "__sub__", "__rsub__", "subtract"), note_difference)
)
