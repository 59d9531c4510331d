"""The queue gives what the reference says of the values that its tensors had when they were added."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.stats import cpu, queue, reference
from unstuck.stats.cpu import Jobs
from unstuck.stats.queue import ARENA, SMALL, SummaryQueue

from .compare import DTYPES, assert_equal, check, gapped, normal, threads

INTERVAL = (-0.97, 0.3)
CHANNELS = normal(4, 6, 3, 5)


class Own(torch.Tensor):
    """A subclass whose memory the compiled pass must not assume anything about."""


def taken(waiting: SummaryQueue, *tickets: int):
    """Return the summaries of some tickets; None where there is none."""
    table, rows = waiting.take(tickets)
    assert len(rows) == len(tickets)
    return [None if row < 0 else table.summary(row) for row in rows]


KINDS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(2, 0, 3, 1),
    "with gaps": gapped,
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "not from the start": lambda x: x[1:],
    "a parameter": lambda x: torch.nn.Parameter(x),
    "with a gradient": lambda x: x.requires_grad_() * 2,
    "a subclass": lambda x: x.as_subclass(Own),
    "negated": lambda x: torch.complex(x.float(), x.float()).conj().imag,
    "negated and contiguous": torch._neg_view,
    "no elements": lambda x: x[:0],
    "no units": lambda x: x[:, :0],
    "known to be zero": lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype),
}
ODD = {
    "a number": torch.tensor(-2.5),
    "one element": torch.tensor([3.0]),
    "integers": torch.tensor([0, 1, -7]),
    "truth values": torch.tensor([True, False]),
    "eight bits": torch.tensor([0.5, -448.0, math.nan]).to(torch.float8_e4m3fn),
}


class TestAdd:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("kind", KINDS)
    def test_any_tensor(self, kind, dtype):
        x = KINDS[kind](CHANNELS.clone().to(dtype))
        waiting = SummaryQueue()
        tickets = [waiting.add(x), waiting.add(x, unit_dim=1), waiting.add(x, unit_dim=-1, interval=INTERVAL)]
        tickets.append(waiting.borrow(x))
        plain, first, last, borrowed = taken(waiting, *tickets)
        check(plain, x)
        check(first, x, unit_dim=1)
        check(last, x, unit_dim=-1, interval=INTERVAL)
        check(borrowed, x)

    @pytest.mark.parametrize("case", ODD)
    def test_odd_ones(self, case):
        waiting = SummaryQueue()
        tickets = [waiting.add(ODD[case], unit_dim=0, interval=INTERVAL), waiting.borrow(ODD[case])]
        found, borrowed = taken(waiting, *tickets)
        check(found, ODD[case], unit_dim=0, interval=INTERVAL)
        check(borrowed, ODD[case])

    def test_all_together(self):
        """Of all dtypes, small and large: nobody gets a neighbour's numbers."""
        tensors = [*ODD.values(), normal(SMALL), normal(SMALL // 4 - 1), normal(SMALL // 4), normal(7, SMALL).double()]
        tensors += [KINDS[kind](CHANNELS.clone().to(dtype)) * 3.0 for dtype in DTYPES for kind in KINDS]
        waiting = SummaryQueue()
        tickets = [waiting.add(x, unit_dim=0, interval=INTERVAL) for x in tensors]
        assert len(waiting) == len(tensors)
        for x, found in zip(tensors, taken(waiting, *tickets), strict=True):
            check(found, x, unit_dim=0, interval=INTERVAL)

    def test_all_small_ones_of_a_type_are_summarised_by_one_call(self, monkeypatch):
        calls, whole = [], cpu._Pass.run
        monkeypatch.setattr(cpu._Pass, "run", lambda made: (calls.append(len(made.with_units)), whole(made))[1])
        waiting = SummaryQueue()
        tickets = [waiting.add(normal(SMALL // 4 - 1, seed=k), unit_dim=0) for k in range(30)]
        assert calls == []
        waiting.take(tickets)
        assert calls == [30]
        waiting.add(normal(SMALL // 4))  # the first that is not small
        assert calls == [30, 1]

    @pytest.mark.parametrize("x", [torch.ones(3, device="meta"), torch.eye(3).to_sparse()])
    def test_what_has_no_elements_in_memory_has_no_summary(self, x):
        waiting = SummaryQueue()
        tickets = [waiting.add(x, unit_dim=0), waiting.add(torch.ones(2)), waiting.borrow(x)]
        nothing, ones, nothing_either = taken(waiting, *tickets)
        assert (nothing, ones.count, nothing_either) == (None, 2, None)

    def test_a_dimension_that_does_not_exist(self):
        with pytest.raises(IndexError):
            SummaryQueue().add(torch.ones(2, 3), unit_dim=2)

    @pytest.mark.parametrize("size", [5, SMALL], ids=["small", "large"])
    @pytest.mark.parametrize("kind", ["contiguous", "with gaps"])
    def test_a_change_afterwards_does_not_matter(self, kind, size):
        x = KINDS[kind](normal(size))
        before, waiting = x.clone(), SummaryQueue()
        ticket = waiting.add(x)
        x.fill_(1e6)
        check(taken(waiting, ticket)[0], before)

    def test_many_arenas(self):
        tensors = [normal(SMALL // 4 - k, seed=k) for k in range(1, 6 * ARENA // SMALL)]
        waiting = SummaryQueue()
        for _ in range(2):
            tickets = [waiting.add(x.clone()) for x in tensors]
            for x, found in zip(tensors, taken(waiting, *tickets), strict=True):
                check(found, x)
        assert len(waiting._arenas) == queue.KEPT_ARENAS

    def test_tensors_that_fill_an_arena_to_the_last_byte(self, monkeypatch):
        monkeypatch.setattr(queue, "ARENA", 256)
        tensors = [normal(n, seed=n) for n in (16, 48, 64, 1, 16, 16, 16, 16, 64)]
        waiting = SummaryQueue()
        tickets = [waiting.add(x.clone()) for x in tensors]
        for x, found in zip(tensors, taken(waiting, *tickets), strict=True):
            check(found, x)


class TestDefer:
    large = normal(3, SMALL)

    def test_a_small_one_does_not_wait(self):
        x, waiting = normal(5), SummaryQueue()
        before, ticket = x.clone(), waiting.add(x, defer=True)
        assert waiting.waiting is None
        x.zero_()
        check(taken(waiting, ticket)[0], before)

    def test_settled_before_the_change(self):
        x, waiting = self.large.clone(), SummaryQueue()
        ticket = waiting.add(x, defer=True)
        waiting.settle()
        x.zero_()
        check(taken(waiting, ticket)[0], self.large)

    def test_changed_before_it_was_settled(self):
        x, waiting = self.large.clone(), SummaryQueue()
        tickets = [waiting.add(x, defer=True), waiting.add(normal(2))]
        x.zero_()
        waiting.settle()
        assert waiting.take(tickets)[1] == [-1, 0]

    def test_changed_through_a_view(self):
        x, waiting = self.large.clone(), SummaryQueue()
        ticket = waiting.add(x, defer=True)
        x[1].view(-1)[:5].mul_(2)
        assert waiting.take([ticket])[1] == [-1]

    def test_taking_settles(self):
        waiting = SummaryQueue()
        check(taken(waiting, waiting.add(self.large, defer=True))[0], self.large)

    def test_clearing_forgets_it(self):
        waiting = SummaryQueue()
        waiting.add(self.large, defer=True)
        waiting.clear()
        waiting.settle()
        assert len(waiting) == 0

    def test_two_in_a_row(self):
        waiting = SummaryQueue()
        tickets = [waiting.add(x, defer=True) for x in (self.large, -self.large)]
        one, two = taken(waiting, *tickets)
        check(one, self.large)
        check(two, -self.large)

    def test_inference_tensors_have_no_version_and_do_not_wait(self):
        waiting = SummaryQueue()
        with torch.inference_mode():
            x = self.large.clone()
            ticket = waiting.add(x, defer=True)
            x.zero_()
        check(taken(waiting, ticket)[0], self.large)


class TestRefine:
    @pytest.mark.parametrize("size", [1, 40], ids=["small", "large"])
    @pytest.mark.parametrize("kind", [*KINDS, "a number"])
    def test_it_refuses_or_is_right(self, kind, size):
        x = ODD[kind] if kind == "a number" else KINDS[kind](normal(4, 6, 3 * size, 5 * size))
        for unit_dim in range(-x.dim(), max(1, x.dim())):
            waiting = SummaryQueue()
            others = [waiting.add(normal(7)), waiting.add(x, defer=True), waiting.add(normal(9))]
            if waiting.refine(others[1], x, unit_dim, INTERVAL):
                check(taken(waiting, others[1])[0], x, unit_dim=unit_dim, interval=INTERVAL)
            else:
                assert kind not in {"contiguous", "channels last", "permuted", "not from the start", "a parameter"}

    @pytest.mark.parametrize("size", [1, 40], ids=["small", "large"])
    def test_the_others_stay_as_they_are(self, size):
        x, other, waiting = normal(4, 50 * size), normal(3, 3), SummaryQueue()
        tickets = [waiting.add(other), waiting.add(x, defer=True)]
        assert waiting.refine(tickets[1], x, 1, INTERVAL)
        first, second = taken(waiting, *tickets)
        check(first, other)
        check(second, x, unit_dim=1, interval=INTERVAL)

    @pytest.mark.parametrize("size", [1, 50], ids=["small", "large"])
    @pytest.mark.parametrize(("unit_dim", "interval"), [(1, INTERVAL), (None, INTERVAL), (1, None)])
    def test_a_second_activation_function_gets_a_summary_of_its_own(self, unit_dim, interval, size):
        x, waiting = normal(40, 10 * size), SummaryQueue()
        ticket = waiting.add(x, defer=True)
        assert waiting.refine(ticket, x, unit_dim, interval)
        assert not waiting.refine(ticket, x, 0, (0.0, math.inf))
        check(taken(waiting, ticket)[0], x, unit_dim=unit_dim, interval=interval)

    def test_a_large_one_that_was_settled(self):
        x, waiting = normal(SMALL), SummaryQueue()
        ticket = waiting.add(x, defer=True)
        waiting.settle()
        assert not waiting.refine(ticket, x, 0, INTERVAL)
        check(taken(waiting, ticket)[0], x)

    def test_one_that_has_no_summary(self):
        x, waiting = torch.ones(3, device="meta"), SummaryQueue()
        assert not waiting.refine(waiting.add(x), x, 0, INTERVAL)


class TestTake:
    def test_nothing_was_added(self):
        table, rows = SummaryQueue().take([])
        assert (len(table), rows) == (0, [])

    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize("size", [10, SMALL // 4 - 1, SMALL])
    def test_nothing_is_wanted(self, size, n):
        waiting = SummaryQueue()
        for _ in range(20):
            waiting.add(torch.ones(size))
        with threads(n):
            table, rows = waiting.take([])
        assert (len(table), rows, len(waiting)) == (0, [], 0)

    @pytest.mark.parametrize("mixed", [False, True])
    def test_a_ticket_asked_for_twice_is_one_row(self, mixed):
        waiting = SummaryQueue()
        a, b = waiting.add(torch.ones(3)), waiting.add(torch.ones(5).to(torch.float64 if mixed else torch.float32))
        table, rows = waiting.take([b, a, b, b])
        assert (len(table), len(set(rows))) == (2, 2)
        assert [table.summary(row).count for row in rows] == [5, 3, 5, 5]

    @pytest.mark.parametrize("mixed", [False, True])
    def test_tickets_left_out_are_not_computed(self, mixed, monkeypatch):
        asked = []
        whole = Jobs.summaries
        monkeypatch.setattr(Jobs, "summaries", lambda jobs, wanted: (asked.append(wanted), whole(jobs, wanted))[1])
        waiting = SummaryQueue()
        tickets = [waiting.add(torch.full((k + 1,), float(k))) for k in range(6)]
        if mixed:
            waiting.add(torch.ones(2).double())
        found = taken(waiting, tickets[4], tickets[1])
        assert [(s.count, s.mean) for s in found] == [(5, 4.0), (2, 1.0)]
        assert asked == [[4, 1]]

    @pytest.mark.parametrize("take", [True, False], ids=["taken", "cleared"])
    def test_it_can_be_filled_again(self, take):
        waiting = SummaryQueue()
        for seed in range(3):
            x = normal(4, 5, seed=seed)
            tickets = [waiting.add(x, unit_dim=1), waiting.add(x.double()), waiting.borrow(x * 2)]
            assert tickets == [0, 1, 2]
            if take or seed == 2:
                for found, (y, options) in zip(
                    taken(waiting, *tickets), [(x, {"unit_dim": 1}), (x, {}), (x * 2, {})], strict=True
                ):
                    check(found, y, **options)
            else:
                waiting.clear()
            assert len(waiting) == 0


class TestBorrow:
    def test_nothing_is_copied(self):
        x, waiting = normal(10), SummaryQueue()
        ticket = waiting.borrow(x)
        x.fill_(3.0)
        assert taken(waiting, ticket)[0].mean == 3.0

    def test_a_temporary_tensor_lives_until_it_is_read(self):
        waiting = SummaryQueue()
        tickets = [waiting.borrow(torch.full((5_000,), 1.0 + k)) for k in range(20)]
        others = [torch.full((5_000,), -1.0) for _ in range(20)]
        assert [s.mean for s in taken(waiting, *tickets)] == [1.0 + k for k in range(20)]
        del others

    def test_views_of_the_same_memory(self):
        x, waiting = normal(6, 8), SummaryQueue()
        views = [x, x.t(), x[2:], x[:, ::2], x.view(-1), x[3, 5]]
        tickets = [take(view) for view in views for take in (waiting.borrow, waiting.add)]
        found = taken(waiting, *tickets)
        for k, view in enumerate(views):
            check(found[2 * k], view)
            check(found[2 * k + 1], view)


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    x = normal(*shape, seed=draw(st.integers(0, 99))).to(draw(st.sampled_from([*DTYPES, torch.int64])))
    x = x.permute(draw(st.permutations(range(x.dim()))))
    return gapped(x) if draw(st.booleans()) and x.dim() else x


@settings(max_examples=150)
@given(st.data())
def test_any_mixture_in_any_order(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "SMALL", 100)
        patch.setattr(queue, "ARENA", 512)
        waiting, expected = SummaryQueue(), {}
        for x in data.draw(st.lists(tensors(), max_size=12)):
            unit_dim = data.draw(st.none() | st.integers(-x.dim(), x.dim() - 1)) if x.dim() else None
            interval = data.draw(st.sampled_from([None, INTERVAL]))
            match data.draw(st.sampled_from(["add", "borrow", "refine", "settle"])):
                case "add":
                    ticket = waiting.add(x, unit_dim=unit_dim, interval=interval)
                    expected[ticket] = reference.summarise(x, unit_dim=unit_dim, interval=interval)
                    x.zero_()
                case "borrow":
                    expected[waiting.borrow(x)] = reference.summarise(x)
                case "refine":
                    ticket = waiting.add(x, defer=True)
                    refined = waiting.refine(ticket, x, unit_dim, interval)
                    options = {"unit_dim": unit_dim, "interval": interval} if refined else {}
                    expected[ticket] = reference.summarise(x, **options)
                case "settle":
                    expected[waiting.add(x, defer=True)] = reference.summarise(x)
                    waiting.settle()
                    x.zero_()
        wanted = data.draw(st.lists(st.sampled_from(list(expected)), max_size=15)) if expected else []
        for ticket, found in zip(wanted, taken(waiting, *wanted), strict=True):
            assert_equal(found, expected[ticket])
