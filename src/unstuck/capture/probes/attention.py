"""What attention looks at: how spread out its weights are, whether they reach later places, rows that see nothing.

Written-out attention (a softmax whose result is multiplied with values) and `scaled_dot_product_attention`, of which a
few rows are computed again. Only in the first steps, and of at most `MAX_MATRICES` x `MAX_ROWS` rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.graph import tensors_in
from unstuck.capture.recorder import Recorder
from unstuck.capture.wrappers import plain
from unstuck.trace import Kind, Site

LAST_STEP = 4  # step; the rules judge how attention starts
MAX_MATRICES = 64  # (batch, head) pairs that are looked at
MAX_ROWS = 32  # queries of each
MAX_KEYS = 8192
MASKED = -5e3  # scores below it are masks: finite stand-ins for -inf are -1e4 or less
MIN_KEYS = 4  # unmasked ones of a row, for its entropy to say something
LOW_ENTROPY = 0.1  # of log(keys): the least that a healthy start leaves is several times that
REACHES = 1e-3  # weight of later places in a row, above which it looks ahead
SCORES = "softmaxes over rows of scores"


# -- softmax ---------------------------------------------------------------------------------------------------------


def look_at_softmax(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Write `masked_rows`, how many rows of a softmax are -inf throughout, and measure scores that may be attention."""
    x, dim = call.input, call.arg(1, "dim")
    fits = plain(x) and plain(out) and isinstance(dim, int) and x.dim() > 0
    if site is None or site.kind is not Kind.SOFTMAX or recorder.replayed is not None or not fits:
        return
    x, out = x.detach(), out.detach()
    if not math.isfinite(float(out.sum(dtype=torch.float32))):
        _write(recorder, site, {"masked_rows": float((x == -math.inf).all(dim).sum())})
    last = dim in (-1, x.dim() - 1)
    if recorder.step > LAST_STEP or x.dim() < 3 or not last or call.op != "softmax" or x.shape[-1] > MAX_KEYS:
        return
    rows = _rows(x.shape[-2])
    scores = _part(x, rows).float()
    numbers = _spread(scores, scores > MASKED) | _ahead(_part(out, rows), out.shape)
    recorder.notes.setdefault(SCORES, {})[site.index] = out.shape, numbers


def look_at_product(recorder: Recorder, call: TorchCall, _out: Any, _site: Site | None) -> None:
    """Write what was measured of a softmax when its result is multiplied with values."""
    known = recorder.notes.get(SCORES)
    if not known or recorder.replayed is not None:
        return
    operands = list(tensors_in(call.args))
    for weights, values in zip(operands, reversed(operands), strict=True):
        origin = recorder.origins.of(weights)
        for index in origin.sites if origin is not None and len(operands) == 2 else ():
            shape, numbers = known.get(index, (None, None))
            if shape is not None and plain(weights) and _same_matrices(weights.shape, shape):
                site = recorder.trace.sites[index]
                used = _ahead(_part(weights.detach(), _rows(shape[-2])), weights.shape)  # masked after the softmax?
                _write(recorder, site, numbers | {name: min(used[name], numbers[name]) for name in used})
                _write_source(recorder, site, values)
                del known[index]


def _same_matrices(shape: torch.Size, other: torch.Size) -> bool:
    """Tell whether two tensors hold as many matrices of one size; heads and batch are often made one dimension."""
    return shape[-2:] == other[-2:] and len(shape) > 2 and shape.numel() == other.numel()


# -- fused attention -------------------------------------------------------------------------------------------------


def look_at_fused(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Compute some rows of a fused attention again, and write the same numbers."""
    q, k, v = call.arg(0, "query"), call.arg(1, "key"), call.arg(2, "value")
    if site is None or site.kind is not Kind.ATTENTION or recorder.replayed is not None:
        return
    mask = call.arg(3, "attn_mask")
    if not all(plain(x) and x.dim() >= 3 for x in (q, k, v, out)) or not (mask is None or plain(mask)):
        return
    if mask is not None and not math.isfinite(float(out.detach().sum(dtype=torch.float32))):
        hidden = mask.logical_not() if mask.dtype is torch.bool else mask == -math.inf
        _write(recorder, site, {"masked_rows": float(hidden.all(-1).sum())})
    shape = torch.Size((*q.shape[:-1], k.shape[-2]))
    if recorder.step > LAST_STEP or shape[-1] > MAX_KEYS:
        return
    scores, seen = _scores(q.detach(), k.detach(), call, shape)
    weights = torch.softmax(scores.masked_fill(~seen, -math.inf), -1)
    _write(recorder, site, {**_spread(scores, seen), **_ahead(weights, shape)})
    _write_source(recorder, site, v)


def _scores(q: Tensor, k: Tensor, call: TorchCall, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return the scaled scores of some rows, shape (…, rows, keys), and which of them no mask hides."""
    scale, mask = call.kwargs.get("scale"), call.arg(3, "attn_mask")
    rows, keys = _rows(shape[-2]).to(q.device), torch.arange(shape[-1], device=q.device)
    groups = q.shape[-3] // max(1, k.shape[-3]) if q.dim() > 3 else 1
    k = _some(k, len(_matrices(q))).float()
    if groups > 1:
        k = k.repeat_interleave(groups, -3)
    scores = _part(q, rows).float() @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    seen = torch.ones_like(scores, dtype=torch.bool)
    if call.arg(5, "is_causal"):
        seen &= keys <= rows[:, None]
    if isinstance(mask, Tensor):
        given = _part(mask.detach().expand(shape), rows)
        if given.dtype is torch.bool:
            seen &= given
        else:
            scores, seen = scores + given.float(), seen & (given > MASKED)
    return scores, seen


# -- numbers ---------------------------------------------------------------------------------------------------------


def _rows(queries: int) -> Tensor:
    """Return which queries are looked at: all, or some that are evenly spread."""
    return torch.linspace(0, queries - 1, min(queries, MAX_ROWS)).round().long()


def _matrices(x: Tensor) -> range:
    """Return which entries of the first dimension are looked at."""
    others = math.prod(x.shape[1:-2])
    return range(min(x.shape[0], max(1, MAX_MATRICES // max(1, others))))


def _some(x: Tensor, first: int) -> Tensor:
    return x[:first]


def _part(x: Tensor, rows: Tensor) -> Tensor:
    """Return the rows that are looked at of a tensor of matrices, shape (…, queries, anything)."""
    return _some(x, len(_matrices(x))).index_select(-2, rows.to(x.device))


def _spread(scores: Tensor, seen: Tensor) -> dict[str, float]:
    """Return what the scores of some rows say, {} when no row has enough keys.

    `entropy`: the mean over (batch, head) matrices of their rows' entropy, as a share of log(keys seen);
    `entropy_share`: the share of these matrices in which it is under `LOW_ENTROPY`; `max_logit`: the median over them
    of the largest distance of a score from its row's mean; `keys`: the most that a row sees.
    """
    count = seen.sum(-1)
    enough = count >= MIN_KEYS
    if not bool(enough.any()) or not bool(torch.isfinite(scores.masked_fill(~seen, 0.0)).all()):
        return {}
    hidden = ~seen
    entropy = torch.special.entr(torch.softmax(scores.masked_fill(hidden, -math.inf), -1)).sum(-1)
    share = (entropy / count.clamp_min(2).log()).masked_fill(~enough, 0.0)
    each = share.sum(-1) / enough.sum(-1).clamp_min(1)
    used = enough.any(-1)
    mean = scores.masked_fill(hidden, 0.0).sum(-1, keepdim=True) / count.clamp_min(1)[..., None]
    apart = (scores - mean).abs().masked_fill(hidden | ~enough[..., None], 0.0)
    return {
        "entropy": float(each[used].mean()),
        "entropy_share": float((each[used] < LOW_ENTROPY).float().mean()),
        "max_logit": float(apart.amax((-2, -1))[used].median()),
        "keys": float(count.max()),
    }


def _ahead(weights: Tensor, shape: torch.Size) -> dict[str, float]:
    """Return `looks_ahead`, the share of rows (the last left out) with weight on later places, and its mean.

    Only of square attention: {} elsewhere. `weights` are the rows looked at of attention of this shape.
    """
    queries, keys = shape[-2:]
    if queries != keys or queries < 2:
        return {}
    rows = _rows(queries).to(weights.device)
    later = torch.arange(keys, device=weights.device) > rows[:, None]
    ahead = (weights.float() * later).sum(-1)[..., :-1].nan_to_num()
    rows_ahead = (ahead > REACHES).float().mean()
    return {"looks_ahead": float(rows_ahead), "weight_ahead": float(ahead.mean()), "places": float(keys)}


def _write(recorder: Recorder, site: Site, numbers: dict[str, float]) -> None:
    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


def _write_source(recorder: Recorder, site: Site, values: Tensor) -> None:
    """Write the vector `values_from`: the sites that made the values."""
    origin = recorder.origins.of(values)
    if origin is not None and origin.sites:
        sites = [float(index) for index in origin.sites]
        recorder.later(lambda step: recorder.trace.add_vector(step, site.index, "values_from", sites), site)


LOOKS = {
    **dict.fromkeys(("softmax", "log_softmax"), look_at_softmax),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "einsum"), look_at_product),
    **dict.fromkeys(functions.ATTENTION_OPS - {"flex_attention"}, look_at_fused),
}
