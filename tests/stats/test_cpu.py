"""The compiled pass against the float64 reference: counts, extremes and histogram exactly, sums to rounding."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from textwrap import dedent

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unstuck import stats
from unstuck.stats import cpu, passes
from unstuck.stats.cpu import Jobs
from unstuck.stats.queue import Sample, SummaryQueue
from unstuck.stats.summary import EDGES

from .compare import DTYPES, check, normal


def check_equal(x, **options):
    return check(cpu.summarise(x, **options), x, **options)


def run(code: str) -> list[str]:
    """Run a program in a process of its own and return the words that it printed."""
    ran = subprocess.run([sys.executable, "-c", dedent(code)], check=True, capture_output=True, text=True)
    return ran.stdout.split()


LAYOUTS = {
    "features last": (torch.randn(32, 100), -1),
    "channels first": (torch.randn(4, 7, 5, 5), 1),
    "channels last": (torch.randn(4, 7, 5, 5).contiguous(memory_format=torch.channels_last), 1),
    "transposed": (torch.randn(30, 20).t(), 1),
    "every other column": (torch.randn(30, 20)[:, ::2], -1),
    "expanded": (torch.randn(30, 1).expand(30, 5), 1),
    "long rows": (torch.randn(3, 9_000), -1),
    "long runs": (torch.randn(2, 3, 9_000), 1),
    "large, cut for threads": (torch.randn(1_000, 701), -1),
    "one unit": (torch.randn(50, 1), 1),
    "scalar": (torch.tensor(3.0), None),
    "one element": (torch.tensor([-2.0]), 0),
    "no rows": (torch.zeros(0, 4), 1),
    "no units": (torch.zeros(4, 0), 1),
}


class TestLayouts:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_each(self, layout, dtype):
        x, unit_dim = LAYOUTS[layout]
        for options in ({}, {"interval": (-0.5, 0.5)}, {"unit_dim": unit_dim, "interval": (0.0, math.inf)}):
            check_equal(x.to(dtype), **options)

    @pytest.mark.parametrize("layout", ["features last", "channels last", "transposed", "long runs", "no rows"])
    @pytest.mark.parametrize("unit_dim", [None, 1])
    def test_dense_tensors_are_not_copied(self, layout, unit_dim, monkeypatch):
        monkeypatch.setattr(cpu, "COPIED", Counter())
        cpu.summarise(LAYOUTS[layout][0], unit_dim=unit_dim)
        SummaryQueue().add(LAYOUTS[layout][0], unit_dim=unit_dim)
        assert not cpu.COPIED

    @pytest.mark.parametrize(("layout", "size"), [("every other column", 300), ("expanded", 150)])
    def test_other_tensors_are_copied_once_and_counted(self, layout, size, monkeypatch):
        for unit_dim in (None, 1):
            copied = Counter()
            monkeypatch.setattr(cpu, "COPIED", copied)
            cpu.summarise(LAYOUTS[layout][0], unit_dim=unit_dim)
            assert copied == {"tensors": 1, "elements": size}

    @settings(max_examples=60)
    @given(
        hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(width=32)),
        st.data(),
    )
    def test_any_array(self, array, data):
        unit_dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
        check_equal(torch.from_numpy(array), unit_dim=unit_dim, interval=(-1.0, 2.0))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
    def test_other_dtypes_are_refused(self, dtype):
        with pytest.raises(KeyError):
            cpu.summarise(torch.ones(3, dtype=dtype))


TINY = {torch.float32: 1e-45, torch.float64: 5e-324, torch.bfloat16: 1e-40, torch.float16: 6e-8}


class TestOddValues:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_all_sorts_together(self, dtype):
        info = torch.finfo(dtype)
        odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, info.tiny, -info.tiny, info.tiny / 8, info.max, info.min]
        x = torch.tensor(odd * 3, dtype=dtype).reshape(3, 10)
        for unit_dim in (None, 0, 1):
            check_equal(x, unit_dim=unit_dim, interval=(-1.0, 1.0))
        summary = check_equal(torch.tensor([math.nan, math.inf], dtype=dtype))
        assert (summary.finite, summary.minimum, summary.maximum) == (0, math.inf, -math.inf)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_any_mixture_of_zeros_and_tiny_values(self, dtype):
        tiny = TINY[dtype]
        assert torch.tensor(tiny, dtype=dtype) > 0

        @settings(max_examples=80)
        @given(st.lists(st.sampled_from([0.0, -0.0, tiny, -tiny, 1.0, -1.0, math.nan, -math.inf]), max_size=30))
        def mixture(values):
            x = torch.tensor(values, dtype=dtype)
            for unit_dim in (None, 0):
                found = check_equal(x, unit_dim=unit_dim, interval=(0.0, 1.0))
                assert found.histogram.sum() == found.finite - found.zeros
            check_equal(torch.stack([x, -x]), unit_dim=1)

        mixture()

    @pytest.mark.parametrize("zero", [0.0, -0.0], ids=str)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_zeros_alone_are_in_no_bin(self, dtype, zero):
        found = check_equal(torch.full((5_000,), zero, dtype=dtype), unit_dim=0)
        assert (found.zeros, found.histogram.sum(), found.minimum, found.maximum) == (5_000, 0, 0.0, 0.0)

    @pytest.mark.parametrize(
        ("dtype", "patterns"),
        [
            (torch.float32, np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)),
            (torch.float64, np.array([0x7FF << 52 | 1, 2**63 - 1, 0xFFF << 52 | 1, 2**64 - 1], np.uint64)),
        ],
        ids=["float32", "float64"],
    )
    def test_nan_of_any_payload(self, dtype, patterns):
        """Alone, first, last, and among values of either sign; nothing of it is left for the next tensor."""
        for nan in torch.from_numpy(patterns.view(patterns.dtype.str.replace("u", "i"))).view(dtype):
            assert nan.isnan()
            for others in ([], [1.0, 2.0], [-1.0, -2.0], [0.0, -0.0], [3.0, -1e-30]):
                rest = torch.tensor(others, dtype=dtype)
                waiting = SummaryQueue()
                tensors = [torch.cat([nan[None], rest]), torch.cat([rest, nan[None]]), torch.tensor([1.5, -2.5, 3e9])]
                table, rows = waiting.take([waiting.add(x.to(dtype), unit_dim=0) for x in tensors])
                for row, x in zip(rows, tensors, strict=True):
                    check(table.summary(row), x.to(dtype), unit_dim=0)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
    def test_every_edge_of_the_histogram_and_its_neighbours(self, dtype):
        x = torch.from_numpy(EDGES).to(dtype)
        around = torch.stack([x, torch.nextafter(x, torch.zeros_like(x)), torch.nextafter(x, x * 2)])
        for part in (around, -around, torch.cat([around, -around])):
            check_equal(part)
            check_equal(part, unit_dim=1)
        for value in around[:, [0, 1, 256, -1]].flatten():  # each alone: what lies below and above is not looked at
            check_equal(value)
            check_equal(-value)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_every_16_bit_pattern(self, dtype):
        x = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype).reshape(256, 256)
        check_equal(x)
        check_equal(x, unit_dim=1, interval=(-0.1, 0.1))
        check_equal(x, unit_dim=0, interval=(-1e-6, 7e4))
        finite = x[x.isfinite()]
        assert check_equal(finite, interval=(-0.1, 0.1)).nonfinite == 0

    @given(st.lists(st.lists(st.floats(width=32), max_size=12), min_size=2, max_size=6))
    def test_a_tensor_leaves_nothing_behind_for_the_next(self, values):
        tensors = [torch.tensor(v) for v in values]
        jobs = Jobs(torch.float32)
        for k, x in enumerate(tensors):
            jobs.add(x.data_ptr(), (x.numel(), 1, 1) if k % 2 else (1, 1, x.numel()))
        table = jobs.summaries()
        for k, x in enumerate(tensors):
            check(table.summary(k), x)


def test_subnormal_numbers_are_no_zeros_where_torch_flushes_them():
    words = run("""
        import torch
        from unstuck.stats import cpu, reference
        from unstuck.stats.queue import SummaryQueue

        if not torch.set_flush_denormal(True):
            raise SystemExit(print("unsupported"))
        torch.set_num_threads(2)
        torch.set_flush_denormal(False)
        small = torch.tensor([-1e-40, 2e-41, -0.0, 0.0])
        tensors = [small[:1], small[1:2], small, torch.tensor([[-1.0, 3.0]]), small.repeat(70_000).reshape(-1, 2)]
        tensors += [x.bfloat16() for x in tensors] + [x.half() for x in tensors] + [small.double() * 1e-280]
        true = [reference.summarise(x, unit_dim=-1, interval=(-1e-41, 1.0)) for x in tensors]
        torch.set_flush_denormal(True)
        waiting = SummaryQueue()
        tickets = [waiting.add(x, unit_dim=-1, interval=(-1e-41, 1.0)) for x in tensors]
        table, rows = waiting.take(tickets)
        print("flushed" if (torch.tensor([1e-40]) * 1.0 == 0.0).item() else "changed")
        torch.set_flush_denormal(False)
        for row, t in zip(rows, true, strict=True):
            f = table.summary(row)
            same = all(getattr(f, n) == getattr(t, n) for n in ("count", "zeros", "outside", "minimum", "maximum"))
            same &= (f.histogram == t.histogram).all() and (f.units.zeros == t.units.zeros).all()
            print("right" if same else "wrong")
    """)
    if words == ["unsupported"]:
        pytest.skip("torch cannot flush subnormal numbers here")
    assert words == ["flushed", *["right"] * 16]


LIMITS = {
    "not exact in float32": (0.1, 0.3),
    "negative": (-0.3, -0.1),
    "right below and above a float32": (math.nextafter(0.5, 1), math.nextafter(0.75, 0)),
    "right outside of two float32": (math.nextafter(0.5, 0), math.nextafter(0.75, 1)),
    "equal": (0.1, 0.1),
    "the wrong way round": (1.0, -1.0),
    "no lower limit": (-math.inf, 0.1),
    "no upper limit": (0.1, math.inf),
    "no limit": (-math.inf, math.inf),
    "zero": (0.0, -0.0),
    "beyond float32": (-1e300, 1e300),
    "above float32": (1e300, 1e301),
    "between float32's largest number and infinity": (-3.4028235e38, 3.40282355e38),
    "below float32": (-1e-300, 1e-300),
    "subnormal": (1e-40, 2e-39),
    "integers": (0, 6),
}


class TestInterval:
    """Compared as float64 would: an element is outside when it is below the first number or above the second."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("limits", LIMITS)
    def test_the_limits_and_their_neighbours(self, limits, dtype):
        interval = LIMITS[limits]
        x = torch.tensor([*interval, 0.0, 1.0, -1.0], dtype=torch.float64).to(dtype)
        x = torch.cat([x, torch.nextafter(x, x + 1), torch.nextafter(x, x - 1), -x])
        for options in ({}, {"unit_dim": 0}):
            found = check_equal(x, interval=interval, **options)
            assert found.outside == sum(v < interval[0] or v > interval[1] for v in x.tolist() if math.isfinite(v))
        check_equal(torch.cat([x, torch.full_like(x, math.nan)]), interval=interval, unit_dim=0)

    @given(st.floats(width=64, allow_nan=False), st.floats(width=64, allow_nan=False), st.data())
    def test_any_limits(self, lower, upper, data):
        dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
        x = torch.tensor([lower, upper], dtype=torch.float64).to(dtype)
        x = torch.cat([x, torch.nextafter(x, torch.zeros_like(x)), torch.nextafter(x, 2 * x)])
        check_equal(x, interval=(lower, upper))


class TestCompilation:
    def test_each_dtype_is_compiled_once(self):
        def everything():
            for x in (normal(5), normal(300, 4).t(), normal(3, 4, 5), torch.tensor(1.0), torch.zeros(0)):
                for dtype in DTYPES:
                    cpu.summarise(x.to(dtype), unit_dim=0, interval=(0.1, 2.0))
                    waiting = SummaryQueue()
                    tickets = waiting.differences([(x.to(dtype), Sample(x.to(dtype)))])
                    waiting.take([*tickets, waiting.borrow(x.to(dtype))])

        everything()
        compiled = list(passes.summarise_table.signatures)
        everything()
        assert list(passes.summarise_table.signatures) == compiled
        assert len(compiled) == len(DTYPES)

    def test_loading_compiles_what_float32_needs(self):
        words = run("""
            import sys, unstuck.stats
            print("numba" in sys.modules)
            unstuck.stats.load()
            import torch
            from unstuck.stats import cpu, passes
            before = len(passes.summarise_table.signatures)
            cpu.summarise(torch.ones(4, 5).t(), unit_dim=1, interval=(0.0, 2.0))
            print(before, len(passes.summarise_table.signatures))
        """)
        assert words == ["False", "1", "1"]

    def test_it_can_be_loaded_again(self):
        stats.load()
        stats.load()
        check(stats.summarise(torch.tensor([1.0, -3.0]), unit_dim=0), torch.tensor([1.0, -3.0]), unit_dim=0)
