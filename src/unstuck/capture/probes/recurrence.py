"""How much of its first hidden state a fused recurrent layer still remembers at the end of a sequence.

The layer is run again, now and then, on a few sequences of the batch, cut off from the network's graph and without
dropout, and one vector-Jacobian product carries a fixed direction of the last hidden state back to the first one. No
random number is drawn, and neither parameters nor their gradients are touched.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.capture.wrappers import plain
from unstuck.trace import Kind, Site

MAX_SEQUENCES = 2  # of a batch
MAX_STEPS = 256  # of a sequence
MIN_STEPS = 16  # below it there is nothing to forget
MAX_HIDDEN = 2048
DIRECTION = 1.7  # radians between neighbours of the direction: it repeats nowhere and favours no unit
GROWTH, KEPT, STEPS = "state_growth", "state_kept", "state_steps"


class _Layer(NamedTuple):
    """The arguments of one of torch's fused recurrent functions."""

    x: Tensor  # (time, batch, features), or (batch, time, features) with batch_first
    state: tuple[Tensor, ...]  # each (layers x directions, batch, hidden)
    weights: list[Tensor]
    biased: bool
    layers: int
    both: bool  # directions
    batch_first: bool


def look_at_memory(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Measure how a change of the first hidden state of a sequence arrives in the last one.

    Scalars of the layer's site: `state_kept`, the length of the gradient of the last hidden state (of the uppermost
    layer) with respect to the first states of all layers; `state_steps`, the time steps between them; `state_growth`,
    the factor per time step. At step 0, at the first sampled step from 5 on, and whenever the step number has doubled.
    """
    if site is None or site.kind is not Kind.RECURRENT or recorder.replayed is not None:
        return
    earlier = recorder.trace.scalars(site, KEPT)
    if (earlier and recorder.step < max(5, 2 * earlier[-1][0])) or torch._C._len_torch_dispatch_stack():
        return
    layer = _layer(call)
    if layer is None or not all(plain(x) for x in (layer.x, *layer.state, *layer.weights)):
        return
    if layer.x.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    steps = layer.x.shape[1 if layer.batch_first else 0]
    if steps < MIN_STEPS or layer.state[0].shape[-1] > MAX_HIDDEN:
        return
    kept = _kept(call, layer)
    growth = kept ** (1 / steps) if math.isfinite(kept) else math.inf

    def write(step: int) -> None:
        for name, value in ((KEPT, kept), (STEPS, steps), (GROWTH, growth)):
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


def _layer(call: TorchCall) -> _Layer | None:
    """Return what a call was given, cut to a few sequences and steps; None when it is none that is known."""
    if len(call.args) != 9:
        return None
    x, second, third, *rest = call.args
    packed = isinstance(second, Tensor) and second.dim() == 1 and not second.is_floating_point()
    state, weights = (third, rest[0]) if packed else (second, third)
    biased, layers, _dropout, _train, both = rest[1:6] if packed else rest[:5]
    states = (state,) if isinstance(state, Tensor) else tuple(state)
    if packed:  # the longest sequence comes first in each time step
        starts = torch.cat([second.new_zeros(1), second.cumsum(0)[:-1]])[:MAX_STEPS]
        return _Layer(x[starts.to(x.device)][:, None], _first(states, 1), weights, biased, layers, both, False)
    batch_first = bool(rest[5])
    x = x[:MAX_SEQUENCES, :MAX_STEPS] if batch_first else x[:MAX_STEPS, :MAX_SEQUENCES]
    return _Layer(x, _first(states, MAX_SEQUENCES), weights, biased, layers, both, batch_first)


def _first(states: tuple[Tensor, ...], sequences: int) -> tuple[Tensor, ...]:
    return tuple(state[:, :sequences] for state in states)


def _kept(call: TorchCall, layer: _Layer) -> float:
    """Return |J^T v| / |v| of the last hidden state by the first ones, the mean over the sequences."""
    grad = inspect.unwrap(torch.autograd.grad)  # the session listens to the one that programs call
    with torch.enable_grad(), torch.autograd.set_detect_anomaly(False):
        x = layer.x.detach().contiguous()
        state = [s.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for s in layer.state]
        hx = tuple(state) if call.op == "lstm" else state[0]
        weights = [weight.detach() for weight in layer.weights]
        rest = (layer.biased, layer.layers, 0.0, True, layer.both, layer.batch_first)
        last = call.func(x, hx, weights, *rest)[1][-2 if layer.both else -1 :]
        units = torch.arange(last.shape[-1], device=last.device)
        direction = torch.cos(DIRECTION * units).to(last.dtype).expand_as(last)
        found = grad(last, state, grad_outputs=direction, allow_unused=True)
    squares = sum(g.double().square().sum((0, 2)) for g in found if g is not None)
    ratio = (squares / direction.double().square().sum((0, 2))).sqrt() if isinstance(squares, Tensor) else None
    return 0.0 if ratio is None else float(ratio.mean())


LOOKS = dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), look_at_memory)
