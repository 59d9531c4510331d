"""Additions of two tensors that sites made, such as a residual connection's: the scale of each sum, as training begins.

Each becomes a site of kind ADDITION with the scalar `std`, that of the sum, and the vectors `first_from` and
`second_from`: the sites that made either operand. What comes after it still follows those sites, not the addition.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site


def note_sum(recorder: Recorder, call: TorchCall, out: Any, _site: Site | None) -> None:
    """Write how large the sum is and where its operands come from."""
    if not recorder.at_start or recorder.replayed is not None or len(call.args) < 2 or not isinstance(out, Tensor):
        return
    operands = call.args[:2]
    if not all(isinstance(x, Tensor) and x.shape == out.shape for x in operands):
        return
    first, second = (recorder.origins.of(x) for x in operands)
    if first is None or second is None or not first.sites or not second.sites:
        return
    if first.leaf is not None or second.leaf is not None or out.dim() < 2 or not out.is_floating_point():
        return
    made = recorder.made
    site = recorder.site(Kind.ADDITION, call.op)
    recorder.made = made
    std = out.detach().float().std(correction=0)
    sources = {"first_from": list(first.sites), "second_from": list(second.sites)}

    def write(step: int) -> None:
        recorder.trace.add_scalar(step, site.index, "std", float(std))
        for name, indices in sources.items():
            recorder.trace.add_vector(step, site.index, name, indices)

    recorder.later(write, site)


LOOKS = dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), note_sum)
