"""The shape of the tree, and messages between processes."""

import os

import pytest
import torch

from unstuck.ranks.tree import FANOUT, PART, LostError, Tree, levels

from . import processes


def members(size):
    """The groups of all ranks."""
    return {group for rank in range(size) for group in levels(rank, size)}


class TestShape:
    def test_one_process_has_no_group(self):
        assert list(levels(0, 1)) == []

    @pytest.mark.parametrize("size", [2, 7, 8, 9, 16, 17, 64, 65, 100, 513])
    def test_each_rank_but_0_sends_once_and_all_reaches_0(self, size):
        senders = [rank for group in members(size) for rank in group[1:]]
        assert sorted(senders) == list(range(1, size))
        leader = {rank: group[0] for group in members(size) for rank in group[1:]}
        for rank in range(size):
            while rank:
                assert leader[rank] < rank
                rank = leader[rank]

    @pytest.mark.parametrize("size", [2, 9, 70, 4096])
    def test_all_members_know_their_group_alike(self, size):
        for rank in (0, 1, 8, 9, 64, size - 1):
            for group in levels(rank, size) if rank < size else ():
                assert rank in group
                assert len(group) <= FANOUT
                assert all(group in levels(other, size) for other in group)

    def test_nobody_has_many_connections(self):
        assert max(sum(len(group) - 1 for group in levels(rank, 4096)) for rank in (0, 1, 8, 64, 512)) == 28


def joined(parts):
    assert sorted(parts) == list(parts)
    return b"".join(parts.values())


def gather(rank, size, failing=None):
    """All ranks' numbers together, then once more, in another order of sizes."""
    tree, told = Tree(), []
    for turn in range(2):
        part = (b"%d," % rank) * (1 + turn * 100_000 * (rank == size - 1))
        try:
            answer = tree.reduce(part, joined, lambda data: b"%d" % len(set(data.decode().split(","))))
        except LostError as error:
            tree.close()
            return [*told, str(error)]
        told.append(answer.decode())
        if rank == failing:
            os._exit(0)
    tree.close()
    return [*told, tree.nbytes]


def test_two_processes():
    assert [seen[:2] for seen in processes.results(gather, 2)] == [["3", "3"]] * 2


@pytest.mark.slow
def test_ten_processes_have_two_levels():
    seen = processes.results(gather, 10)
    assert [told[:2] for told in seen] == [["11", "11"]] * 10


@pytest.mark.slow
def test_all_hear_who_is_lost():
    seen = processes.run(gather, 10, 9)
    heard = [told[1] for told, _, _ in seen[:-1]]
    assert heard == ["rank 9 has been lost"] * 8 + ["rank 9 is gone"]


def lie(rank, size, told, sent):
    """Rank 1 announces so many bytes of a part and sends others."""
    tree = Tree(limit=2.0)
    if rank:
        tensors = [torch.tensor([PART, rank, told]), torch.zeros(sent, dtype=torch.uint8)]
        for tag, tensor in enumerate(tensors[: 1 + bool(sent)]):
            tree._levels[0].group.send([tensor], 0, tag).wait()
        return None
    with pytest.raises(LostError) as error:
        tree.reduce(b"part", joined, bytes)
    return str(error.value)


@pytest.mark.parametrize(("told", "sent"), [(-1, 0), (1 << 62, 0), (100, 10)])
def test_a_length_that_is_none(told, sent):
    assert processes.results(lie, 2, told, sent)[0] == "rank 1 is gone"
