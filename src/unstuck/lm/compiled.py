"""Many steps of SGD on one network of the ladder, compiled by numba (https://numba.readthedocs.io).

Forward and backward pass are written out, since a network of 12,000 numbers fits in a core's own cache and a call of
a library costs more than what it computes. The gradient of the logits is multiplied by minus the learning rate at
once: every later gradient is linear in it, so that a parameter's update is added to it with no gradient kept. Products
run over the 200 hidden units, four rows by four terms at a time, or as eight dot products: enough independent sums to
keep the processor's vector units fed. Rows that this needs beyond those that there are (symbols, inputs) are zeros and
stay so. All is in one file, since numba's cache on disk is renewed only when the file of the cached function changes;
the sizes come from `stages.py` because they are the lecture's and fixed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from unstuck.lm.stages import (
    BATCH,
    CONTEXT,
    EMBEDDING,
    HIDDEN,
    MOMENTUM,
    STAGES,
    FloatArray,
    IntArray,
    Network,
    start,
)

_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})

_F = np.float32
_ZERO, _HALF, _ONE, _TWO = _F(0), _F(0.5), _F(1), _F(2)
_LOG2E = _F(1 / math.log(2))
_LN2_HIGH, _LN2_LOW = _F(355 / 512), _F(math.log(2) - 355 / 512)  # their products with whole numbers lose no bits
_TAYLOR = tuple(_F(1 / math.factorial(n)) for n in range(2, 8))  # of exp; the rest is < 2e-8 for |r| <= ln(2)/2
_C2, _C3, _C4, _C5, _C6, _C7 = _TAYLOR
_WIDEST = _F(20)  # |2x| from which tanh(x) is 1 in float32
_LOWEST = _F(-60)  # exponents below are held here: e^-60 is as good as 0, and no product with it is denormal (slow)
_KEEP, _NEW = _F(1 - MOMENTUM), _F(MOMENTUM)


def advance(
    networks: Sequence[Network],
    contexts: IntArray,
    targets: IntArray,
    draws: Sequence[IntArray],
    rates: FloatArray,
    threads: int = 1,
) -> list[FloatArray]:
    """Train each network in place for len(rates) steps, `threads` of them at a time; the losses (S,) of each.

    `contexts` (N, 3) and `targets` (N,) are the examples, `draws[k]` (>= S, 32) says which ones network k sees. A
    network's numbers do not depend on `threads` or on the other networks.
    """
    if threads == 1:
        return [_advance(*pair, contexts, targets, rates) for pair in zip(networks, draws, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(_advance, *pair, contexts, targets, rates) for pair in zip(networks, draws, strict=True)]
        return [job.result() for job in jobs]


def prepare() -> float:
    """Compile the steps, or load them from numba's cache on disk; the seconds that took."""
    begun = time.perf_counter()
    nothing = np.zeros((0, BATCH), np.int32)
    network = start(STAGES["batchnorm"], 0, 2)
    _advance(network, nothing, np.zeros((0, CONTEXT), np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    return time.perf_counter() - begun


def _advance(network: Network, draws: IntArray, contexts: IntArray, targets: IntArray, rates: FloatArray) -> FloatArray:
    """One network's share of `advance`: its weights are padded, trained and put back."""
    hidden, output = _padded(network.hidden_weight), _padded(network.output_weight.T)
    losses = np.empty(len(rates), np.float32)
    rest = (network.gain, network.shift, network.running_mean, network.running_std)
    _train(
        network.norm, network.embedding, hidden, network.hidden_bias, output, network.output_bias, *rest,
        contexts, targets, draws, rates, losses,
    )  # fmt: skip
    network.hidden_weight[:] = hidden[: len(network.hidden_weight)]
    network.output_weight[:] = output[: len(network.output_bias)].T
    return losses


def _padded(rows: FloatArray) -> FloatArray:
    """A copy with rows of zeros added until their number is a multiple of four."""
    copy = np.zeros((-(-len(rows) // 4) * 4, rows.shape[1]), np.float32)
    copy[: len(rows)] = rows
    return copy


@_jit
def _train(
    norm: bool, embedding: Any, hidden: Any, hidden_bias: Any, output: Any, output_bias: Any,
    gain: Any, shift: Any, mean: Any, std: Any,
    contexts: Any, targets: Any, draws: Any, rates: Any, losses: Any,
) -> None:  # fmt: skip
    """`hidden` (F, H) and `output` (V, H) padded; the other arrays as in `Network`."""
    inputs = np.zeros((BATCH, len(hidden)), np.float32)
    inputs_t = np.zeros((len(hidden), BATCH), np.float32)
    inputs_grad = np.empty((BATCH, len(hidden)), np.float32)
    active = np.empty((BATCH, HIDDEN), np.float32)
    active_grad = np.empty((BATCH, HIDDEN), np.float32)
    normed = np.empty((BATCH, HIDDEN), np.float32)
    inverse = np.empty(HIDDEN, np.float32)
    logits = np.empty((BATCH, len(output)), np.float32)
    logits_t = np.empty((len(output), BATCH), np.float32)
    for step in range(len(rates)):
        batch = draws[step]
        _gather(inputs, inputs_t, embedding, contexts, batch)
        active[:] = hidden_bias
        _add_product(active, inputs, hidden)
        if norm:
            _normalise(active, normed, inverse, gain, shift, mean, std)
        _tanh(active)
        _dots(logits, active, output)
        losses[step] = _softmax(logits, output_bias, targets, batch, -rates[step] / _F(BATCH))
        _transpose(logits_t, logits)
        active_grad[:] = _ZERO
        _add_product(active_grad, logits, output)
        _add_product(output, logits_t, active)
        _add_rows(output_bias, logits)
        _through_tanh(active_grad, active)
        if norm:
            _through_norm(active_grad, normed, inverse, gain, shift)
        else:
            _add_rows(hidden_bias, active_grad)
        _dots(inputs_grad, active_grad, hidden)
        _add_product(hidden, inputs_t, active_grad)
        _scatter(embedding, inputs_grad, contexts, batch)


@_jit
def _gather(inputs: Any, inputs_t: Any, embedding: Any, contexts: Any, batch: Any) -> None:
    """The embeddings of each example's context side by side, and their transpose."""
    for i in range(BATCH):
        context = contexts[batch[i]]
        for place in range(CONTEXT):
            vector = embedding[context[place]]
            for k in range(EMBEDDING):
                inputs[i, place * EMBEDDING + k] = vector[k]
                inputs_t[place * EMBEDDING + k, i] = vector[k]


@_jit
def _scatter(embedding: Any, inputs_grad: Any, contexts: Any, batch: Any) -> None:
    """Add the inputs' updates to the embeddings that they came from."""
    for i in range(BATCH):
        context = contexts[batch[i]]
        for place in range(CONTEXT):
            vector = embedding[context[place]]
            for k in range(EMBEDDING):
                vector[k] += inputs_grad[i, place * EMBEDDING + k]


@_jit
def _add_product(out: Any, a: Any, b: Any) -> None:
    """Add a @ b to `out`: (M, K), (K, N), (M, N) with M and K multiples of four."""
    for i in range(0, a.shape[0], 4):
        o0, o1, o2, o3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        for k in range(0, a.shape[1], 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            a00, a01, a02, a03 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            a10, a11, a12, a13 = a[i + 1, k], a[i + 1, k + 1], a[i + 1, k + 2], a[i + 1, k + 3]
            a20, a21, a22, a23 = a[i + 2, k], a[i + 2, k + 1], a[i + 2, k + 2], a[i + 2, k + 3]
            a30, a31, a32, a33 = a[i + 3, k], a[i + 3, k + 1], a[i + 3, k + 2], a[i + 3, k + 3]
            for j in range(b.shape[1]):
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                o0[j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                o1[j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
                o2[j] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
                o3[j] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3


@_jit
def _dots(out: Any, a: Any, b: Any) -> None:
    """Set `out` to a @ b.T: (M, K), (N, K), (M, N) with M even and N a multiple of four."""
    for i in range(0, a.shape[0], 2):
        a0, a1 = a[i], a[i + 1]
        for n in range(0, b.shape[0], 4):
            b0, b1, b2, b3 = b[n], b[n + 1], b[n + 2], b[n + 3]
            s00, s01, s02, s03 = _ZERO, _ZERO, _ZERO, _ZERO
            s10, s11, s12, s13 = _ZERO, _ZERO, _ZERO, _ZERO
            for j in range(a.shape[1]):
                y0, y1 = a0[j], a1[j]
                x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
                s00 += y0 * x0
                s01 += y0 * x1
                s02 += y0 * x2
                s03 += y0 * x3
                s10 += y1 * x0
                s11 += y1 * x1
                s12 += y1 * x2
                s13 += y1 * x3
            out[i, n], out[i, n + 1], out[i, n + 2], out[i, n + 3] = s00, s01, s02, s03
            out[i + 1, n], out[i + 1, n + 1], out[i + 1, n + 2], out[i + 1, n + 3] = s10, s11, s12, s13


@_jit
def _transpose(out: Any, a: Any) -> None:
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]


@_jit
def _add_rows(out: Any, rows: Any) -> None:
    """Add to `out` (K,) the sum of the rows (M, >= K)."""
    for i in range(rows.shape[0]):
        row = rows[i]
        for j in range(len(out)):
            out[j] += row[j]


@numba.njit(inline="always")
def _exponential(x: Any) -> Any:
    """e^x as s (1 + p): s a power of two, p = e^r - 1 by its Taylor series with |r| <= ln(2) / 2."""
    n = np.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = r + r * r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7)))))
    s = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return s, p


@_jit
def _tanh(x: Any) -> None:
    """In place, by (e^2x - 1) / (e^2x + 1)."""
    for i in range(x.shape[0]):
        row = x[i]
        for j in range(x.shape[1]):
            s, p = _exponential(min(max(_TWO * row[j], -_WIDEST), _WIDEST))
            less_one = s * p + (s - _ONE)  # without cancellation where x is small
            row[j] = less_one / (less_one + _TWO)


@_jit
def _through_tanh(grad: Any, active: Any) -> None:
    for i in range(BATCH):
        row, held = grad[i], active[i]
        for j in range(HIDDEN):
            row[j] *= _ONE - held[j] * held[j]


@_jit
def _softmax(logits: Any, bias: Any, targets: Any, batch: Any, scale: Any) -> Any:
    """Mean cross-entropy of logits + bias; in place of the logits, their gradient times `scale` times the batch."""
    symbols, total = len(bias), 0.0
    for i in range(BATCH):
        row, target = logits[i], targets[batch[i]]
        highest = row[0] + bias[0]
        for v in range(symbols):
            row[v] += bias[v]
            highest = max(highest, row[v])
        wanted, sums = row[target] - highest, _ZERO
        for v in range(symbols):
            s, p = _exponential(max(row[v] - highest, _LOWEST))
            row[v] = s * p + s
            sums += row[v]
        total += math.log(sums) - wanted
        for v in range(symbols):
            row[v] *= scale / sums
        row[target] -= scale
    return total / BATCH


@_jit
def _normalise(x: Any, normed: Any, inverse: Any, gain: Any, shift: Any, mean: Any, std: Any) -> None:
    """BatchNorm in place (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167), the lecture's form: std unbiased."""
    centre, squares = np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    _add_rows(centre, x)
    for j in range(HIDDEN):
        centre[j] /= _F(BATCH)
    for i in range(BATCH):
        row = x[i]
        for j in range(HIDDEN):
            squares[j] += (row[j] - centre[j]) * (row[j] - centre[j])
    for j in range(HIDDEN):
        deviation = np.sqrt(squares[j] / _F(BATCH - 1))
        inverse[j] = _ONE / deviation
        mean[j] = _KEEP * mean[j] + _NEW * centre[j]
        std[j] = _KEEP * std[j] + _NEW * deviation
    for i in range(BATCH):
        row, kept = x[i], normed[i]
        for j in range(HIDDEN):
            kept[j] = (row[j] - centre[j]) * inverse[j]
            row[j] = gain[j] * kept[j] + shift[j]


@_jit
def _through_norm(grad: Any, normed: Any, inverse: Any, gain: Any, shift: Any) -> None:
    """Gradient of BatchNorm's input in place of that of its output; gain and shift are updated."""
    sums, products = np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    for i in range(BATCH):
        row, kept = grad[i], normed[i]
        for j in range(HIDDEN):
            sums[j] += row[j]
            products[j] += row[j] * kept[j]
    for i in range(BATCH):
        row, kept = grad[i], normed[i]
        for j in range(HIDDEN):
            centred = row[j] - sums[j] / _F(BATCH) - kept[j] * products[j] / _F(BATCH - 1)
            row[j] = gain[j] * inverse[j] * centred
    for j in range(HIDDEN):
        gain[j] += products[j]
        shift[j] += sums[j]
