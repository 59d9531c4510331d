"""Fingerprints of tensors: 64 bits made of all bits of all elements, on the device where they lie.

The sum, modulo 2^64, of each element's bits times an odd number of its place. A change of one element always shows,
since odd numbers have inverses there; that of many stays hidden with a chance of about 2^-62. Two ranks with equal
fingerprints hold the same parameters, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 1 << 16  # elements that are widened to int64 at a time: 512 KiB, within the second-level cache
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprints(tensors: Sequence[Tensor]) -> list[int]:
    """Return a number in 0 … 2^64 - 1 for each dense tensor; waits for a device once for each dtype and device."""
    sums: list[Tensor] = []
    weights: dict[torch.device, Tensor] = {}
    for tensor in tensors:
        x = tensor.detach()
        if x.device not in weights:
            weights[x.device] = _weights(CHUNK, x.device)
        sums.append(_sum(x, weights[x.device]))
    return [int(total) & ((1 << 64) - 1) for total in _on_host(sums)]


def _sum(x: Tensor, weights: Tensor) -> Tensor:
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    x = x.to(torch.uint8) if x.dtype is torch.bool else x
    bits = x.contiguous().reshape(-1).view(_BITS[x.element_size()])
    total = torch.full((), bits.numel(), dtype=torch.int64, device=x.device)
    for number, chunk in enumerate(torch.split(bits, CHUNK)):
        part = (chunk.to(torch.int64) * weights[: len(chunk)]).sum()
        total = total + part * _odd(number)
    return total


def _weights(count: int, device: torch.device) -> Tensor:
    """Return odd numbers, int64 of shape (count,), by a multiplicative hash of their place (Knuth, TAOCP 3, 6.4)."""
    place = torch.arange(1, count + 1, dtype=torch.int64, device=device)
    mixed = place * -7046029254386353131  # 2^64 / golden ratio, as a signed number
    return ((mixed ^ (mixed >> 29)) * -4658895280553007687) | 1


def _odd(number: int) -> int:
    value = ((number + 1) * 0x9E3779B97F4A7C15 | 1) & ((1 << 64) - 1)
    return value - (1 << 64) if value >> 63 else value


def _on_host(sums: list[Tensor]) -> list[int]:
    if len({total.device for total in sums}) == 1:
        values: list[int] = torch.stack(sums).tolist()
        return values
    return [int(total) for total in sums]
