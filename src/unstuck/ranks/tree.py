"""How parts come to rank 0 and its answer to all: a tree of small gloo groups, with a time limit.

Rank r is a member of level l when r is a multiple of 8^l; the eight members below the next multiple of 8^(l+1) form a
group, led by the lowest. Sizes differ from rank to rank, so messages are sent from one to the other: a header of int64
(kind, rank it tells of, length), then bytes. The groups are made of the store that the program's own process group met
by (https://docs.pytorch.org/docs/stable/distributed.html#distributed-key-value-store), under names of their own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

FANOUT = 8
LIMIT = 5.0
"""Seconds that a merge may wait for a rank.

Where ranks work together they have just met in the program's own collectives, so that a merge waits for milliseconds:
one that is not there within seconds is gone, held up, or working on its own. It is long enough for a pause of the
garbage collector, of paging or of a file system, and next to the ten minutes (nccl) or thirty (gloo) after which
torch gives up it is nothing, so that a training that is lost fails when it would have failed.
"""
PARTING = 0.5  # seconds for a message of 24 bytes to leave this process
A_LEVEL = 1.0  # seconds more for each level above, so that who is nearest to the one that is lost says who it is
MEETING = 10.0  # seconds that the first merge waits for all to come: they may have loaded data for longer or shorter
PART, ANSWER, OVER = range(3)
_generations = itertools.count()  # of trees in this process; other ranks make theirs in the same order


class LostError(RuntimeError):
    """A rank does not merge any more: `rank` is which (-1 where that is not known), `why` in words."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank} {why}" if rank >= 0 else why)
        self.rank = rank
        self.why = why


class Level(NamedTuple):
    """A group: its members in order, the leader first, and what connects them."""

    members: tuple[int, ...]
    group: Any

    @property
    def leader(self) -> int:
        """The rank that the others send to."""
        return self.members[0]


def levels(rank: int, size: int) -> Iterator[tuple[int, ...]]:
    """Yield the members of each group that a rank belongs to, from the leaves up; groups of one are left out.

    >>> list(levels(8, 20))
    [(8, 9, 10, 11, 12, 13, 14, 15), (0, 8, 16)]
    """
    distance = 1
    while distance < size and rank % distance == 0:
        leader = rank - rank % (distance * FANOUT)
        members = tuple(range(leader, min(size, leader + distance * FANOUT), distance))
        if len(members) > 1:
            yield members
        distance *= FANOUT


class Tree:
    """Connects this rank with the others; raises LostError, within the time limits, when they do not come.

    `nbytes` counts what this rank has sent and received.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.limit = LIMIT if limit is None else limit
        self.nbytes = 0
        self._last_words: list[tuple[Any, Tensor]] = []  # under way; tensors must live until they are sent
        if not dist.is_gloo_available():
            raise LostError(-1, "torch was built without gloo")
        try:
            self._levels = self._connected()
        except RuntimeError as error:  # of a store or a connection
            first = str(error).partition(chr(10))[0]
            lost = error if isinstance(error, LostError) else LostError(-1, f"ranks cannot be reached ({first})")
            raise lost from None

    def _connected(self) -> list[Level]:
        store = PrefixStore(f"unstuck/{next(_generations)}", _get_default_store())
        deadline = time.monotonic() + MEETING
        store.add("watching", 1)
        pause = 0.005
        while (watching := store.add("watching", 0)) < self.size:
            if watching <= 0:
                raise LostError(-1, "other ranks have not waited for this one")
            if time.monotonic() > deadline:
                store.add("watching", -self.size)  # nobody who comes later waits for the others to connect
                raise LostError(-1, f"only {watching} of {self.size} ranks are being watched")
            time.sleep(pause)
            pause = min(1.5 * pause, 0.2)  # thousands of ranks may be asking
        found = []
        for members in levels(self.rank, self.size):
            named = PrefixStore(f"{members[0]}-{members[1]}", store)
            group = dist.ProcessGroupGloo(named, members.index(self.rank), len(members), timedelta(seconds=MEETING))
            found.append(Level(members, group))
        return found

    def reduce(
        self, part: bytes, merge: Callable[[Mapping[int, bytes]], bytes], answer: Callable[[bytes], bytes]
    ) -> bytes:
        """Bring all parts together; return what `answer` made, on rank 0, of all of them merged.

        `merge` gets some ranks' parts, those of the ranks below them merged already, by rank in rising order.
        Raises LostError, on each rank that can be told, when a rank does not take part.
        """
        try:
            return self._reduce(part, merge, answer)
        except LostError as error:
            self.end(error.rank)
            raise

    def _reduce(
        self, part: bytes, merge: Callable[[Mapping[int, bytes]], bytes], answer: Callable[[bytes], bytes]
    ) -> bytes:
        depth = 0
        for level in self._levels:
            if level.leader != self.rank:
                self._send(level, level.leader, PART, self.rank, part)
                told = self._receive(level, level.leader, self.limit + 2 * A_LEVEL * len(self._levels) + A_LEVEL)
                break
            depth += 1
            limit = self.limit + A_LEVEL * (depth - 1)
            part = merge({self.rank: part} | {other: self._receive(level, other, limit) for other in level.members[1:]})
        else:
            told = answer(part)
        for level in reversed(self._levels[:depth]):
            for member in level.members[1:]:
                self._send(level, member, ANSWER, self.rank, told)
        return told

    def end(self, lost: int | None = None) -> None:
        """Tell the neighbours, without waiting for them, that a rank (this one, if none is named) merges no more."""
        for level in self._levels:
            others = level.members[1:] if level.leader == self.rank else (level.leader,)
            for other in others:
                try:
                    self._last_words += self._post(level, other, OVER, self.rank if lost is None else lost, b"")
                except RuntimeError:
                    continue  # it is the one that is lost

    def close(self) -> None:
        """Let the connections go, once the last words are out."""
        for work, _ in self._last_words:
            try:
                work.wait(timedelta(seconds=PARTING))
            except RuntimeError:
                continue  # nobody is there to hear them
        self._levels.clear()
        self._last_words.clear()

    # -- messages --------------------------------------------------------------------------------------------------

    def _post(self, level: Level, other: int, kind: int, about: int, data: bytes) -> list[tuple[Any, Tensor]]:
        place = level.members.index(other)
        tensors = [torch.tensor([kind, about, len(data)], dtype=torch.int64, device="cpu")]
        if data:
            tensors.append(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self.nbytes += sum(tensor.nbytes for tensor in tensors)
        return [(level.group.send([tensor], place, tag), tensor) for tag, tensor in enumerate(tensors)]

    def _send(self, level: Level, other: int, kind: int, about: int, data: bytes) -> None:
        try:
            for work, _ in self._post(level, other, kind, about, data):
                work.wait(timedelta(seconds=self.limit))
        except RuntimeError as error:
            raise LostError(other, _why(error)) from None

    def _receive(self, level: Level, other: int, limit: float) -> bytes:
        place = level.members.index(other)
        header = torch.zeros(3, dtype=torch.int64, device="cpu")
        try:
            self._wait(level.group.recv([header], place, 0), limit)
            kind, about, length = header.tolist()
            if kind == OVER:
                raise LostError(about, "is not watched any more" if about == other else "has been lost")
            data = torch.empty(length, dtype=torch.uint8, device="cpu")
            if length:
                self._wait(level.group.recv([data], place, 1), limit)
        except RuntimeError as error:
            raise error if isinstance(error, LostError) else LostError(other, _why(error)) from None
        self.nbytes += header.nbytes + data.nbytes
        return _bytes(data)

    @staticmethod
    def _wait(work: Any, limit: float) -> None:
        work.wait(timedelta(seconds=limit))


def _bytes(tensor: Tensor) -> bytes:
    data: bytes = tensor.numpy().tobytes()
    return data


def _why(error: RuntimeError) -> str:
    return "did not answer in time" if "imed out" in str(error) or "timeout" in str(error) else "is gone"
