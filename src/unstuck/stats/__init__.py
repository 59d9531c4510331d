"""A tensor in, a fixed-size summary out, in one pass; nothing here knows about models or steps."""

from __future__ import annotations

from torch import Tensor

from unstuck.stats import reference
from unstuck.stats.summary import TensorSummary

__all__ = ["load", "loading_seconds", "summarise"]


def summarise(x: Tensor, *, unit_dim: int | None = None, interval: tuple[float, float] | None = None) -> TensorSummary:
    """Summarise a tensor by the fastest means there is for it; see `reference.summarise` for what is measured."""
    if x.device.type == "cpu":
        from unstuck.stats import cpu

        if x.dtype in cpu.SUPPORTED:
            return cpu.summarise(x, unit_dim=unit_dim, interval=interval)
    if x.device.type == "cuda":
        from unstuck.stats import cuda

        if x.dtype in cuda.SUPPORTED and cuda.available():
            return cuda.summarise(x, unit_dim=unit_dim, interval=interval)
    return reference.summarise(x, unit_dim=unit_dim, interval=interval)


def load() -> None:
    """Load numba and the compiled passes, so that the first summary does not have to wait for them."""
    from unstuck.stats import cpu

    cpu.load()


def loading_seconds() -> float:
    """Return how long this process has spent on loading and compiling passes, also for dtypes met later."""
    from unstuck.stats import cpu

    return cpu.loading_seconds()
