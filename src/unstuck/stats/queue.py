"""Tensors that wait to be summarised together: one call for all the small ones of a phase.

A small tensor (under 64 KiB) is copied as it lies in memory, which takes a microsecond, so that whatever happens to it
afterwards does not matter. A larger one is summarised at once, or, when it may still turn out to be the input of an
activation function, right before the next operation. On CUDA nothing waits for the device until `take`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.stats import cpu, cuda, reference
from unstuck.stats.cpu import Interval, Jobs, layout_of, tabulate
from unstuck.stats.cuda import Pending
from unstuck.stats.layout import Shape
from unstuck.stats.table import SummaryTable

SMALL = 1 << 16  # bytes; a larger tensor is worth a call of its own
ARENA = 1 << 20  # bytes that are set aside at a time for copies
KEPT_ARENAS = 4
MAX_SAMPLE = 1 << 20  # elements of a parameter that are kept to measure its update; a strided sample beyond
ALIGNMENT = 64  # bytes
PLAIN = (Tensor, nn.Parameter)


class Sample:
    """At most 2^20 elements of a tensor, evenly spread and copied: what its update is measured by.

    `values` has shape (elements,) and the tensor's dtype and device; `stride` tells that every how many-th element in
    memory is among them, and is None when the tensor cannot be read as it lies in memory. A sparse or nested tensor has
    no such elements: `values` is empty and `exists` False.
    """

    __slots__ = ("exists", "stride", "values")

    exists: bool
    stride: int | None
    values: Tensor

    def __init__(self, x: Tensor) -> None:
        self.exists = reference.has_elements(x)
        if not self.exists:
            self.values, self.stride = torch.empty(0, dtype=x.dtype, device=x.device), None
            return
        if x.is_contiguous() and x.numel() <= MAX_SAMPLE:
            self.values = x.detach().clone().view(-1)
            self.stride = 1
            return
        step = -(-x.numel() // MAX_SAMPLE) or 1
        self.values = x.detach().reshape(-1)[::step].clone()
        self.stride = step if x.is_contiguous() else None

    def lies_in(self, x: Tensor) -> bool:
        """Tell whether the compiled pass can read the same elements of `x` where they lie."""
        old, stride = self.values, self.stride
        if stride is None or not _plain(x) or x.dtype is not old.dtype or not old.is_cpu:
            return False
        return x.is_contiguous() and not x.is_neg() and -(-x.numel() // stride) == old.numel()

    def differs(self, x: Tensor) -> bool:
        """Tell whether the tensor has changed since; one without elements in memory is taken to have."""
        now = Sample(x)
        return not (now.exists and self.exists and torch.equal(now.values, self.values))


class SummaryQueue:
    """Takes tensors in, gives a table of their summaries out; each tensor is known by the ticket `add` returned."""

    def __init__(self) -> None:
        self._arenas: list[Any] = []
        self._arena, self._used = -1, ARENA  # the one being filled, and how far
        self._jobs: dict[torch.dtype, Jobs] = {}
        self._sources: list[Any] = []  # of each ticket: the jobs or the table it is among, or None
        self._numbers: list[int] = []  # and its number there
        self._kept: list[Tensor] = []  # the owners of borrowed memory
        self.waiting: tuple[int, Tensor, int] | None = None  # a large tensor's ticket, itself and its version

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, x: Tensor, *, unit_dim: int | None = None, interval: Interval = None, defer: bool = False) -> int:
        """Take a tensor of any size, dtype and device; arguments as `reference.summarise`.

        With `defer`, a large one is summarised when `settle` or the next such call is made: it must not change until
        then. What has no elements in memory (on the meta device, sparse or nested) has no summary.
        """
        ticket = len(self._sources)
        if not _plain(x):
            self._place(_elsewhere(x, unit_dim, interval), 0)
        elif x.nbytes < SMALL:
            self._copy(x, unit_dim, interval)
        elif defer and not x.is_inference():
            self.settle()
            self.waiting = ticket, x, x._version
            self._place(None, 0)
        else:
            self._place(tabulate(x, unit_dim, interval), 0)
        return ticket

    def _place(self, source: Any, number: int) -> None:
        self._sources.append(source)
        self._numbers.append(number)

    def _copy(self, x: Tensor, unit_dim: int | None, interval: Interval) -> None:
        """Copy a small tensor as it lies in memory and note how to read it."""
        address, shape, keep = layout_of(x, unit_dim)
        size = x.nbytes
        if self._used + size > ARENA:
            self._arena, self._used = self._arena + 1, 0
            if self._arena == len(self._arenas):
                self._arenas.append(ctypes.create_string_buffer(ARENA))
        copy = ctypes.addressof(self._arenas[self._arena]) + self._used
        ctypes.memmove(copy, address, size)
        del keep
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        self._enter(x.dtype, copy, shape, interval, unit_dim is not None and x.dim() > 0)

    def borrow(self, x: Tensor) -> int:
        """Take a tensor that stays as it is until `take`: it is read where it lies."""
        if not _plain(x):
            return self.add(x)
        address, shape, keep = layout_of(x, None)
        self._kept.append(keep)
        return self._enter(x.dtype, address, shape)

    def differences(self, pairs: Sequence[tuple[Tensor, Sample]]) -> list[int]:
        """Take what was added to tensors since a sample was taken of each; they stay as they are until `take`.

        On the CPU it is computed while it is summarised; elsewhere for all tensors of a kind together. What has another
        number of elements by now, none in memory, or is on another device, has no summary.
        """
        tickets: list[int] = []
        places: list[int] = []
        new: list[Tensor] = []
        old: list[Tensor] = []
        for x, before in pairs:
            values = before.values
            if before.stride is not None and before.lies_in(x):
                self._kept += (x, values)
                shape, minus = (1, 1, values.numel()), values.data_ptr()
                self._enter(x.dtype, x.data_ptr(), shape, stride=before.stride, minus=minus)
            else:
                self._place(None, 0)
                now = Sample(x)
                comparable = now.exists and before.exists and now.values.shape == values.shape
                if comparable and now.values.device == values.device:
                    places.append(len(tickets))
                    new.append(_wide(now.values))
                    old.append(_wide(values))
            tickets.append(len(self) - 1)
        for place, added in zip(places, torch._foreach_sub(new, old) if new else (), strict=True):
            tickets[place] = self.add(added)
        return tickets

    def _enter(
        self,
        dtype: torch.dtype,
        address: int,
        shape: Shape,
        interval: Interval = None,
        with_units: bool = False,
        stride: int = 1,
        minus: int = 0,
    ) -> int:
        jobs = self._jobs.get(dtype)
        if jobs is None:
            jobs = self._jobs[dtype] = Jobs(dtype)
        self._sources.append(jobs)
        self._numbers.append(jobs.add(address, shape, interval, with_units, stride, minus))
        return len(self._sources) - 1

    def refine(self, ticket: int, x: Tensor, unit_dim: int | None, interval: Interval) -> bool:
        """Have a tensor that is in the queue, and has not changed, summarised by unit and interval as well.

        Returns False when it is too late for that, or was done before, so that it must be added again.
        """
        if self.waiting is not None and self.waiting[0] == ticket:
            self.waiting = None
            self._sources[ticket] = tabulate(x, unit_dim, interval)
            return True
        jobs = self._sources[ticket]
        if not isinstance(jobs, Jobs):
            return False
        address, shape, _ = layout_of(x, unit_dim)
        if address != x.data_ptr():
            return False  # what was copied lies in another order
        with_units = unit_dim is not None and x.dim() > 0
        return jobs.refine(self._numbers[ticket], shape, interval, with_units=with_units)

    def settle(self) -> None:
        """Summarise the large tensor that waits, if any; one that was changed meanwhile has no summary."""
        if self.waiting is not None:
            ticket, x, version = self.waiting
            self.waiting = None
            if x._version == version:
                self._sources[ticket] = tabulate(x, None, None)

    def take(self, tickets: Sequence[int]) -> tuple[SummaryTable, list[int]]:
        """Return a table and, of each of these tickets, its row there (-1 where it has no summary); forget all."""
        self.settle()
        unique = list(dict.fromkeys(tickets))
        if len(self._jobs) == 1 and len(self._sources) == len(next(iter(self._jobs.values()))):
            table, rows = next(iter(self._jobs.values())).summaries(unique), list(range(len(unique)))
        else:
            table, rows = self._gathered(unique)
        if len(unique) < len(tickets):
            row_of = dict(zip(unique, rows, strict=True))
            rows = [row_of[ticket] for ticket in tickets]
        self.clear()
        return table, rows

    def _gathered(self, tickets: Sequence[int]) -> tuple[SummaryTable, list[int]]:
        groups: dict[int, tuple[Any, list[int], list[int]]] = {}
        for position, ticket in enumerate(tickets):
            source = self._sources[ticket]
            if source is not None:
                _, numbers, positions = groups.setdefault(id(source), (source, [], []))
                numbers.append(self._numbers[ticket])
                positions.append(position)
        pending = [source for source, _, _ in groups.values() if isinstance(source, Pending)]
        collected = {id(p): SummaryTable.of([s]) for p, s in zip(pending, cuda.collect(pending), strict=True)}
        rows, tables, at = [-1] * len(tickets), [], 0
        for source, numbers, positions in groups.values():
            tables.append(source.summaries(numbers) if isinstance(source, Jobs) else collected.get(id(source), source))
            for position in positions:
                rows[position] = at
                at += 1
        return SummaryTable.joined(tables) if tables else SummaryTable.of([]), rows

    def clear(self) -> None:
        """Forget everything that waits; a few arenas are kept for the next time."""
        self._jobs.clear()
        self._sources.clear()
        self._numbers.clear()
        self._kept.clear()
        self.waiting = None
        del self._arenas[KEPT_ARENAS:]
        self._arena, self._used = -1, ARENA


def _plain(x: Tensor) -> bool:
    """Whether the compiled pass can read a tensor (one that is empty, or known to be zero, has no memory)."""
    known = type(x) in PLAIN and x.is_cpu and x.layout is torch.strided and x.dtype in cpu.SUPPORTED
    return known and x.data_ptr() != 0


def _wide(x: Tensor) -> Tensor:
    """Return a tensor as float32 at least, the type that the compiled pass computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _elsewhere(x: Tensor, unit_dim: int | None, interval: Interval) -> SummaryTable | Pending | None:
    if x.is_meta or x.layout is not torch.strided:
        return None
    if x.is_cuda and type(x) in PLAIN and x.dtype in cuda.SUPPORTED and cuda.available():
        return cuda.summarise_async(x, unit_dim=unit_dim, interval=interval)
    return SummaryTable.of([reference.summarise(x, unit_dim=unit_dim, interval=interval)])
