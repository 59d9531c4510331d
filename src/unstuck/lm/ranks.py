"""Sharing independent runs out over the processes that torchrun starts (https://docs.pytorch.org/docs/stable/elastic).

Nothing is exchanged while they train; at the end each process has all results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed

from unstuck.lm.errors import LmError

PATIENCE = timedelta(days=7)  # how long a process that has finished waits for the others
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Ranks:
    """Which process of how many this is."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[_Item]) -> list[_Item]:
        """This process's part: every `size`-th, so that kinds that stand together are spread."""
        return list(items[self.rank :: self.size])

    def gather(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Results of all, of equal shape in every process: `rows` (N, K) float64 hold those of `share(range(N))`."""
        held = torch.zeros(rows.shape, dtype=torch.float64)
        mine = self.share(range(len(rows)))
        held[mine] = torch.from_numpy(rows[mine])
        if self.size > 1:
            distributed.all_reduce(held)
        return held.numpy()

    def all(self, flag: bool) -> bool:
        """Whether `flag` is true in every process; every process must ask."""
        return bool(self.gather(np.full((self.size, 1), float(flag))).all())


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes of this torchrun, joined by gloo within the block; without torchrun this one alone.

    Raises LmError when the environment is not torchrun's, or the others are not there.
    """
    size = _number("WORLD_SIZE")
    if size == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    try:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise LmError(f"the processes cannot meet ({error}): start them by torchrun, or unset WORLD_SIZE") from None
    try:
        yield Ranks(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def cores() -> int:
    """Processor cores of this process, shared with the others of this machine under torchrun; raises LmError."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // _number("LOCAL_WORLD_SIZE"))


def _number(variable: str) -> int:
    """How many processes an environment variable says there are; raises LmError for what is no such number."""
    text = os.environ.get(variable, "1")
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise LmError(f"the environment variable {variable} is {text!r}: unset it, or start by torchrun, which sets it")
    return int(text)
