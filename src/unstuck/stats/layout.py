"""How the elements of a tensor lie in memory, and which of them belong to which unit."""

from __future__ import annotations

import math

from torch import Tensor

Shape = tuple[int, int, int]
"""(outer, units, inner): element (o, u, i) lies at (o * units + u) * inner + i."""


def laid_out(x: Tensor, unit_dim: int | None) -> tuple[Tensor, Shape, bool]:
    """Return the elements of `x` as they lie in memory, how to read them as (outer, units, inner), and if copied.

    Features-last is (rows, features, 1), channels-first (batch, channels, positions). Without a `unit_dim`, and for a
    single number, everything is one unit: (1, 1, numel). A dense tensor is read where it lies, by ordering its
    dimensions by stride; one with gaps, overlaps or a pending negation is copied once. The first value is
    one-dimensional, of the dtype of `x`. Raises IndexError for a `unit_dim` that `x` does not have.
    """
    plain = x.detach().resolve_neg()
    strides, dims = plain.stride(), range(plain.dim())
    order = list(dims) if plain.is_contiguous() else sorted(dims, key=lambda d: (-strides[d], d))
    ordered = plain.permute(order)
    if not ordered.is_contiguous():
        ordered, order = plain.contiguous(), list(dims)
    flat, copied = ordered.view(-1), ordered.data_ptr() != x.data_ptr()
    if unit_dim is None or not order:
        return flat, (1, 1, flat.numel()), copied
    if not -len(order) <= unit_dim < len(order):
        raise IndexError(f"unit_dim {unit_dim} is out of range for a tensor of {len(order)} dimensions")
    position, sizes = order.index(unit_dim % len(order)), ordered.shape
    return flat, (math.prod(sizes[:position]), sizes[position], math.prod(sizes[position + 1 :])), copied
