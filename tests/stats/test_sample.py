"""Samples of parameters, and the updates that are measured by them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats import queue
from unstuck.stats.queue import MAX_SAMPLE, Sample, SummaryQueue
from unstuck.stats.reference import identical_units

from .compare import DTYPES, check, gapped, normal

KINDS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3),
    "with gaps": gapped,
    "not from the start": lambda x: x[1:],
    "a parameter": lambda x: torch.nn.Parameter(x),
    "negated": lambda x: torch.complex(x.float(), x.float()).conj().imag,
    "negated and contiguous": torch._neg_view,
    "no elements": lambda x: x[:0],
    "a number": lambda x: x[0, 0, 0, 0],
    "integers": lambda x: (10 * x).to(torch.int32),
}
WIDE = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.int32: torch.float64}


def difference(x, before):
    waiting = SummaryQueue()
    waiting.add(torch.full((3,), 7.0))
    table, rows = waiting.take(waiting.differences([(x, before)]))
    return table.summary(rows[0]) if rows[0] >= 0 else None


def expected(new, old):
    wide = WIDE.get(old.dtype, old.dtype)
    return new.detach().to(wide) - old.to(wide)


def changed(x, dtype, seed=9):
    """Change a tensor in place, here and there by much."""
    by = normal(*x.shape, seed=seed) * (normal(*x.shape, seed=seed + 1) > 0)
    by.view(-1)[:1] = 3.0
    with torch.no_grad():
        x += by.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_added(kind, dtype):
    x = KINDS[kind](normal(4, 6, 3, 5).to(dtype))
    before, old = Sample(x), x.detach().clone()
    assert before.values.equal(x.detach().reshape(-1))
    assert not before.differs(x)
    check(difference(x, before), torch.zeros(x.shape, dtype=WIDE.get(x.dtype, x.dtype)))
    changed(x, x.dtype)
    assert before.differs(x) == (x.numel() > 0)
    check(difference(x, before), expected(x, old))


def test_the_sample_does_not_follow_the_tensor():
    for x in (normal(5), normal(4, 5).t(), torch.tensor(2.0)):
        before, old = Sample(x), x.clone()
        x.zero_()
        assert before.values.equal(old.reshape(-1))


def test_no_gradient_is_recorded():
    x = torch.ones(3, 2, requires_grad=True)
    assert not Sample(x).values.requires_grad
    assert not Sample(x.t()).values.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["contiguous", "transposed"])
def test_differences_of_narrow_types_are_not_rounded(kind, dtype):
    old = torch.full((2, 3), 1.0, dtype=dtype)
    x = KINDS[kind](old.clone().reshape(2, 3, 1, 1))
    before, small = Sample(x), torch.finfo(dtype).smallest_normal
    x.copy_(torch.tensor(-small))
    found = difference(x, before)
    assert found.minimum == found.maximum == -1.0 - (small if small > 1e-7 else 0.0)
    x.copy_(torch.tensor(torch.finfo(dtype).max))
    assert difference(x, before).maximum == (torch.tensor(torch.finfo(dtype).max, dtype=dtype).float() - 1).item()


@pytest.mark.parametrize(("old", "new"), [(-3e38, 3e38), (3e38, -3e38)])
def test_a_difference_beyond_float32_is_not_finite(old, new):
    x = torch.tensor([old, 1.0])
    before = Sample(x)
    x[0] = new
    found = difference(x, before)
    assert (found.nonfinite, found.zeros, found.finite) == (1, 1, 1)


def test_many_of_all_sorts_each_with_its_own():
    tensors = [make(normal(4, 6, 3, 5, seed=k).to(dtype)) for k, make in enumerate(KINDS.values()) for dtype in DTYPES]
    tensors.insert(3, torch.ones(3, device="meta"))
    before, old = [Sample(x) for x in tensors], [x.detach().clone() for x in tensors]
    for k, x in enumerate(tensors):
        changed(x, x.dtype, seed=k)
    waiting = SummaryQueue()
    table, rows = waiting.take(waiting.differences(list(zip(tensors, before, strict=True))))
    assert rows.pop(3) == -1
    for row, new, was in zip(rows, tensors[:3] + tensors[4:], old[:3] + old[4:], strict=True):
        check(table.summary(row), expected(new, was))


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("kind", ["sparse", "compressed", "nested"])
class TestWithoutElementsInMemory:
    """A parameter may be one; it has no summary, and does not keep the others from theirs."""

    @pytest.fixture
    def odd(self, kind):
        if kind == "nested":
            return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
        x = torch.eye(3)
        return x.to_sparse() if kind == "sparse" else x.to_sparse_csr()

    def test_no_difference(self, odd):
        plain = torch.zeros(4)
        before = [Sample(odd), Sample(plain)]
        plain += 2.0
        waiting = SummaryQueue()
        table, rows = waiting.take(waiting.differences([(odd, before[0]), (plain, before[1])]))
        assert rows[0] == -1
        assert table.summary(rows[1]).mean == 2.0

    def test_nor_between_it_and_another(self, odd):
        nothing = torch.zeros(0)
        assert difference(nothing, Sample(odd)) is None
        assert difference(odd, Sample(nothing)) is None

    def test_it_may_have_changed(self, odd):
        assert Sample(odd).differs(odd)

    def test_no_units_of_it_are_known_to_be_alike(self, odd):
        assert identical_units(odd, 0) == 0


def test_none_at_all():
    assert SummaryQueue().differences([]) == []


class TestStrided:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("size", "step"), [(MAX_SAMPLE, 1), (MAX_SAMPLE + 1, 2), (2 * MAX_SAMPLE, 2), (2 * MAX_SAMPLE + 5, 3)]
    )
    def test_a_large_parameter(self, size, step, dtype):
        x = normal(size).to(dtype)
        before, old = Sample(x), x.clone()
        assert before.stride == step
        assert before.values.equal(old[::step])
        assert len(before.values) <= MAX_SAMPLE < 2 * len(before.values) + step
        x[1::2] += 1.0
        x[::step] *= 1.5
        found = difference(x, before)
        check(found, expected(x[::step], old[::step]))
        assert found.count == len(before.values)

    def test_one_that_is_not_contiguous(self):
        x = normal(1_025, 2_048).t()
        before, old = Sample(x), x.clone()
        assert (before.stride, len(before.values)) == (None, -(-1_025 * 2_048 // 3))
        x *= 1.5
        check(difference(x, before), (x - old).reshape(-1)[::3])

    def test_changes_between_the_kept_elements_go_unseen(self):
        x = torch.zeros(2 * MAX_SAMPLE)
        before = Sample(x)
        x[1::2] = 1.0
        assert not before.differs(x)
        assert difference(x, before).zeros == MAX_SAMPLE

    @given(st.integers(0, 200), st.integers(1, 50), st.sampled_from(DTYPES))
    def test_any_size(self, size, most, dtype):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(queue, "MAX_SAMPLE", most)
            x = normal(size + 3).to(dtype)[3:]
            before, old = Sample(x), x.clone()
            assert len(before.values) <= most
            x += normal(size, seed=1).to(dtype)
            check(difference(x, before), expected(x, old)[:: before.stride])


class TestWhatBecameOfTheTensor:
    """A parameter's data may have been replaced meanwhile."""

    def test_it_lies_in_another_order(self):
        x = normal(5, 4)
        before = Sample(x)
        check(difference((2 * x).t().contiguous().t(), before), x)
        check(difference(gapped(2 * x), before), x)

    def test_it_lay_in_another_order(self):
        x = normal(5, 4)
        check(difference(2 * x, Sample(gapped(x))), x)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_it_has_another_dtype(self, dtype):
        old = normal(5, 4).bfloat16()
        new = normal(5, 4, seed=1).to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        check(difference(new, Sample(old)), new.to(wide) - old.to(wide))

    @pytest.mark.parametrize("shape", [(0,), (1,), (19,), (21,), (4, 1_000)], ids=str)
    def test_it_has_another_size(self, shape):
        before = Sample(normal(5, 4))
        assert difference(torch.ones(shape), before) is None
        assert before.differs(torch.ones(shape))

    def test_it_is_on_another_device(self):
        assert difference(torch.ones(3, device="meta"), Sample(torch.ones(3))) is None

    def test_it_never_had_elements(self):
        x = torch.ones(3, device="meta")
        assert difference(x, Sample(x)) is None

    def test_it_is_negated(self):
        check(difference(torch._neg_view(torch.ones(3)), Sample(torch.ones(3))), torch.full((3,), -2.0))


def test_the_sample_lives_until_it_is_read():
    waiting = SummaryQueue()
    tickets = waiting.differences([(torch.full((5_000,), 1.0 + k), Sample(torch.ones(5_000))) for k in range(20)])
    others = [torch.full((5_000,), -1.0) for _ in range(40)]
    table, rows = waiting.take(tickets)
    assert [table.summary(row).mean for row in rows] == list(range(20))
    del others
