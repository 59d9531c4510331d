"""When a summary counts as right: counts, extremes and histogram exactly, sums to rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unstuck.stats import reference
from unstuck.stats.summary import TensorSummary

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def assert_equal(found: TensorSummary, true: TensorSummary) -> None:
    for field in ("count", "nonfinite", "zeros", "outside", "minimum", "maximum"):
        assert getattr(found, field) == getattr(true, field), field
    assert np.array_equal(found.histogram, true.histogram)
    slack = min(1e-9 * math.sqrt(true.squares * max(true.count, 1)), 1e300)
    assert found.total == pytest.approx(true.total, rel=1e-9, abs=slack, nan_ok=True)
    assert found.squares == pytest.approx(true.squares, rel=1e-9)
    assert (found.units is None) == (true.units is None)
    if found.units is not None and true.units is not None:
        for field in ("zeros", "outside", "nonfinite", "minimum", "maximum"):
            assert np.array_equal(getattr(found.units, field), getattr(true.units, field)), field
        assert found.units.count == true.units.count
        assert np.allclose(found.units.total, true.units.total, rtol=1e-9, atol=slack, equal_nan=True)
        assert np.allclose(found.units.squares, true.units.squares, rtol=1e-9)


def check(found: TensorSummary, x: Tensor, **options: Any) -> TensorSummary:
    """Compare with the float64 reference."""
    assert_equal(found, reference.summarise(x, **options))
    return found


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch, and so the compiled pass, use `n` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gapped(x: Tensor) -> Tensor:
    """Return the same values, every other one in memory along the last dimension."""
    return x.unsqueeze(-1).expand(*x.shape, 2).contiguous()[..., 0]
