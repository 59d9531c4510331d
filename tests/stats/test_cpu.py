"""The compiled pass against the float64 reference: counts, extremes and histogram exactly, sums to rounding."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unstuck.stats import cpu, reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def check_equal(x, **options):
    fast, true = cpu.summarise(x, **options), reference.summarise(x, **options)
    for field in ("count", "nonfinite", "zeros", "outside", "minimum", "maximum"):
        assert getattr(fast, field) == getattr(true, field), field
    assert np.array_equal(fast.histogram, true.histogram)
    slack = min(1e-9 * math.sqrt(true.squares * max(true.count, 1)), 1e300)
    assert fast.total == pytest.approx(true.total, rel=1e-9, abs=slack, nan_ok=True)
    assert fast.squares == pytest.approx(true.squares, rel=1e-9)
    assert (fast.units is None) == (true.units is None)
    if true.units is not None:
        for field in ("zeros", "outside", "nonfinite", "minimum", "maximum"):
            assert np.array_equal(getattr(fast.units, field), getattr(true.units, field)), field
        assert fast.units.count == true.units.count
        assert np.allclose(fast.units.total, true.units.total, rtol=1e-9, atol=slack, equal_nan=True)
        assert np.allclose(fast.units.squares, true.units.squares, rtol=1e-9)
    return fast


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    x, unit_dim = LAYOUTS[layout]
    for options in ({}, {"interval": (-0.5, 0.5)}, {"unit_dim": unit_dim, "interval": (0.0, math.inf)}):
        check_equal(x.to(dtype), **options)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "long runs"])
def test_dense_tensors_are_not_copied(layout, monkeypatch):
    monkeypatch.setattr(cpu, "COPIED", [])
    cpu.summarise(LAYOUTS[layout][0], unit_dim=1)
    assert cpu.COPIED == []


def test_other_tensors_are_copied_once_and_counted(monkeypatch):
    monkeypatch.setattr(cpu, "COPIED", [])
    cpu.summarise(torch.randn(30, 20)[:, ::2], unit_dim=1)
    assert cpu.COPIED == [300]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_odd_values(dtype):
    info = torch.finfo(dtype)
    values = [
        math.nan,
        math.inf,
        -math.inf,
        0.0,
        -0.0,
        info.tiny,
        -info.tiny,
        info.smallest_normal / 8,
        info.max,
        info.min,
    ]
    check_equal(torch.tensor(values * 3, dtype=dtype).reshape(3, 10), unit_dim=1, interval=(-1.0, 1.0))
    summary = check_equal(torch.tensor([math.nan, math.inf], dtype=dtype))
    assert (summary.finite, summary.minimum, summary.maximum) == (0, math.inf, -math.inf)


def test_every_edge_of_the_histogram_and_its_neighbours():
    edges = torch.from_numpy(np.exp2(np.arange(-300, 301) / 8))
    for dtype in (torch.float64, torch.float32):
        x = edges.to(dtype)
        around = torch.stack([x, torch.nextafter(x, torch.zeros_like(x)), torch.nextafter(x, x * 2)])
        check_equal(torch.cat([around, -around]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_pattern(dtype):
    check_equal(torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype).reshape(256, 256), unit_dim=1)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(width=32)),
    st.data(),
)
def test_any_array(array, data):
    unit_dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    check_equal(torch.from_numpy(array), unit_dim=unit_dim, interval=(-1.0, 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_mean_and_std_when_the_mean_is_a_thousand_times_the_std(dtype):
    x = (torch.randn(10_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e3).to(dtype)
    summary = cpu.summarise(x)
    assert summary.mean == pytest.approx(x.double().mean().item(), abs=1e-3)
    assert summary.std == pytest.approx(x.double().std(correction=0).item(), rel=1e-3)


def test_threads_do_not_change_the_counts():
    x = torch.randn(3_000, 500, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = cpu.summarise(x, unit_dim=1)
        torch.set_num_threads(4)
        four = cpu.summarise(x, unit_dim=1)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(one.histogram, four.histogram)
    assert one.units.total == pytest.approx(four.units.total, rel=1e-9, abs=1e-9)
