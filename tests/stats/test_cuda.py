"""The Triton pass against the float64 reference: counts, extremes and histogram exactly, sums to rounding.

Every test runs in Triton's interpreter, in a process of its own (it must be chosen before Triton is imported), and on a
GPU where there is one. `test_the_passes_compile` builds the machine code of Hopper and Ampere without a GPU.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstuck.stats import cuda
from unstuck.stats.summary import EDGES, TensorSummary

from .compare import DTYPES, check, normal

pytestmark = pytest.mark.skipif(not cuda.available(), reason="needs triton")
TRITON = tuple(int(n) for n in version("triton").split(".")[:2]) if cuda.available() else (0, 0)
interpreted = pytest.mark.skipif(TRITON < (3, 7), reason="Triton's interpreter works with numpy 2.4 from 3.7 on")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA sees")


def interpret(flag: str) -> None:
    os.environ["TRITON_INTERPRET"] = flag
    np.seterr(all="ignore")


def process(flag: str) -> ProcessPoolExecutor:
    """Start a process in which Triton is interpreted ("1") or compiled ("0")."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), interpret, (flag,))


def summaries(tensors: list[Tensor], options: dict[str, Any], constants: dict[str, int]) -> list[TensorSummary]:
    """Summarise with some constants of the module changed."""
    before = {name: getattr(cuda, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(cuda, name, value)
        cuda._programs.cache_clear()
        return cuda.collect([cuda.summarise_async(x, **options) for x in tensors])
    finally:
        for name, value in before.items():
            setattr(cuda, name, value)
        cuda._programs.cache_clear()


class Interpreter:
    """Summarises CPU tensors in another process."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def all(
        self, tensors: list[Tensor], constants: dict[str, int] | None = None, **options: Any
    ) -> list[TensorSummary]:
        plain = [x.detach() for x in tensors]
        return self._pool.submit(summaries, plain, options, constants or {}).result(timeout=300)

    def __call__(self, x: Tensor, constants: dict[str, int] | None = None, **options: Any) -> TensorSummary:
        return self.all([x], constants, **options)[0]


class Gpu(Interpreter):
    """Summarises on the GPU what is given on the CPU, with the same strides."""

    def __init__(self) -> None:
        pass

    def all(
        self, tensors: list[Tensor], constants: dict[str, int] | None = None, **options: Any
    ) -> list[TensorSummary]:
        return summaries([moved(x) for x in tensors], options, constants or {})


def moved(x: Tensor) -> Tensor:
    """Return the same view of a copy of the memory on the GPU."""
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
    return memory.cuda().as_strided(x.shape, x.stride(), x.storage_offset())


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with process("1") as pool:
        yield pool


@pytest.fixture(params=[pytest.param("interpreter", marks=interpreted), pytest.param("gpu", marks=on_gpu)])
def summarise(request: pytest.FixtureRequest) -> Interpreter:
    return Gpu() if request.param == "gpu" else Interpreter(request.getfixturevalue("interpreter"))


LAYOUTS = {
    "features last": (normal(32, 100), -1),
    "many features last": (normal(9, 700), -1),
    "channels first": (normal(4, 7, 5, 5), 1),
    "channels first, long runs": (normal(2, 3, 2_100), 1),
    "channels last": (normal(4, 7, 5, 5).contiguous(memory_format=torch.channels_last), 1),
    "transposed": (normal(30, 20).t(), 1),
    "units first": (normal(20, 30), 0),
    "every other column": (normal(30, 20)[:, ::2], -1),
    "expanded": (normal(30, 1).expand(30, 5), 1),
    "an odd start": (normal(1_001)[1:].reshape(100, 10), 1),
    "cut for several programs": (normal(1_001, 41), -1),
    "one unit": (normal(50, 1), 1),
    "a row": (normal(5_003), None),
    "scalar": (torch.tensor(3.0), None),
    "one element": (torch.tensor([-2.0]), 0),
    "no rows": (torch.zeros(0, 4), 1),
    "no units": (torch.zeros(4, 0), 1),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(summarise, layout, dtype):
    x, unit_dim = LAYOUTS[layout]
    x = x.to(dtype)
    for options in ({}, {"unit_dim": unit_dim, "interval": (-0.97, 0.3)}):
        check(summarise(x, **options), x, **options)


@pytest.mark.parametrize("layout", ["features last", "channels first", "units first", "a row"])
def test_offsets_of_64_bits(summarise, layout):
    x, unit_dim = LAYOUTS[layout]
    check(summarise(x, {"WIDE_FROM": 0}, unit_dim=unit_dim), x, unit_dim=unit_dim)


def test_a_program_for_every_tile_or_one_for_all(summarise):
    x = normal(1_001, 41)
    for programs in (1, 1_000):
        check(summarise(x, {"PROGRAMS_PER_MULTIPROCESSOR": programs}, unit_dim=1), x, unit_dim=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_odd_values(summarise, dtype):
    info = torch.finfo(dtype)
    odd = [
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
    x = torch.tensor(odd * 3, dtype=dtype).reshape(3, 10)
    check(summarise(x, unit_dim=1, interval=(-1.0, 1.0)), x, unit_dim=1, interval=(-1.0, 1.0))
    check(summarise(x, unit_dim=0), x, unit_dim=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0], ids=str)
def test_values_that_are_in_no_bin(summarise, value):
    x = torch.full((40, 3), value)
    found = check(summarise(x, unit_dim=1), x, unit_dim=1)
    assert (found.histogram.sum(), found.minimum) == (0, math.inf if found.finite == 0 else 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_edge_of_the_histogram_and_its_neighbours(summarise, dtype):
    x = torch.from_numpy(EDGES).to(dtype)
    around = torch.stack([x, torch.nextafter(x, torch.zeros_like(x)), torch.nextafter(x, x * 2)])
    for part in (torch.cat([around, -around]), around[0, :1], around[0, -1:], around[2] * 2.0**60):
        check(summarise(part), part)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_pattern(summarise, dtype):
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(dtype).reshape(256, 256)
    check(summarise(x, unit_dim=1, interval=(-0.1, 0.1)), x, unit_dim=1, interval=(-0.1, 0.1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "interval", [(0.1, 0.3), (-0.3, -0.1), (0.0, math.inf), (-1e300, 1e300), (1e300, 1e301)], ids=str
)
def test_the_ends_of_an_interval_are_compared_exactly(summarise, dtype, interval):
    ends = torch.tensor([*interval, 0.0]).nan_to_num().to(dtype)
    ends = ends[ends.isfinite()]
    x = torch.cat([ends, torch.nextafter(ends, ends + 1), torch.nextafter(ends, ends - 1)])
    check(summarise(x, interval=interval), x, interval=interval)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.randoms(use_true_random=False),
    st.data(),
)
def test_any_shape_order_and_scale(summarise, shape, dtype, random, data):
    unit_dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    order = data.draw(st.permutations(range(len(shape))))
    exponents = [random.uniform(-40, 40) for _ in range(math.prod(shape))]
    x = torch.tensor([random.choice((-1, 1)) * 2**e for e in exponents], dtype=torch.float64).to(dtype)
    x = x.reshape(shape).permute(order)
    options = {"unit_dim": unit_dim, "interval": (-1.0, 2.0)}
    check(summarise(x, **options), x, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_mean_and_std_when_the_mean_is_a_thousand_times_the_std(summarise, dtype):
    size = 10_000_000 if isinstance(summarise, Gpu) else 200_000
    x = (normal(size).double() + 1e3).to(dtype)
    found = summarise(x)
    assert found.mean == pytest.approx(x.double().mean().item(), abs=1e-6)
    assert found.std == pytest.approx(x.double().std(correction=0).item(), rel=1e-6)


def test_many_are_collected_together_and_in_order(summarise):
    tensors = [normal(3, 5), torch.zeros(0, 5), normal(40, 5).bfloat16(), normal(2, 5).double()]
    for x, found in zip(tensors, summarise.all(tensors, unit_dim=1), strict=True):
        check(found, x, unit_dim=1)
    assert summarise.all([]) == []


def test_results_do_not_vary(summarise):
    x = normal(501, 41)
    first, second = summarise(x, unit_dim=1), summarise(x, unit_dim=1)
    assert (first.total, first.squares) == (second.total, second.squares)
    assert np.array_equal(first.units.total, second.units.total)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match=r"^cuda.summarise reads float16, .* and float64, not torch.int64$"):
        cuda.summarise_async(torch.arange(3))


def test_triton_is_imported_when_it_is_needed_and_not_before():
    code = "import sys, unstuck, unstuck.stats.cuda as c; assert c.available(); assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def machine_code(architecture: int, pointer: str, how: int) -> int:
    """Compile the passes and return the bytes of their machine code."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from unstuck.stats import cuda_kernels as kernels

    double = pointer == "*fp64"
    depth, slots = cuda.TILES[{"*i16": 2, "*fp16": 2, "*fp32": 4, "*fp64": 8}[pointer]]
    bits = "i64" if double else "i32"
    values = {"HOW": how, "WIDE": how == kernels.CHANNELS_FIRST, "DOUBLE": double}
    values |= {"DEPTH": depth, "ROWS": slots // 128, "COLUMNS": 128}
    types = {"x": pointer, "facts": "*i64", "histogram": "*i64", "lower": bits, "upper": bits}
    types |= {"units": "i32", "inner": "i32", "extent": "i32"} | dict.fromkeys(values, "constexpr")
    merge = {"parts": "*i64", "facts": "*i64", "splits": "i32", "units": "i32"}
    size = 0
    for kernel, signature, constants in ((kernels.summarise_tiles, types, values), (kernels.merge_splits, merge, {})):
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(n),): v for n, v in constants.items()})
        options = {"num_warps": cuda.WARPS, "maxnreg": 168}
        size += len(compile(source, target=GPUTarget("cuda", architecture, 32), options=options).asm["cubin"])
    return size


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_the_passes_compile():
    with process("0") as pool:
        cases = [(90, "*fp32", 0), (90, "*i16", 1), (80, "*fp64", 2)]
        assert all(pool.submit(machine_code, *case).result(timeout=300) > 0 for case in cases)


@on_gpu
class TestNothingWaits:
    """What only a GPU can show."""

    @pytest.fixture(autouse=True)
    def _compiled(self) -> None:
        cuda.summarise(normal(2_000, 30).cuda(), unit_dim=1)

    def test_launching_does_not_synchronise(self):
        x = normal(2_000, 30).cuda()
        torch.cuda.set_sync_debug_mode("error")
        try:
            pending = [cuda.summarise_async(v, unit_dim=1, interval=(-1.0, 1.0)) for v in (x, x.t(), x[:, ::2])]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        check(cuda.collect(pending)[0], x, unit_dim=1, interval=(-1.0, 1.0))

    def test_launching_returns_while_the_device_is_busy(self):
        x, done = normal(2_000, 30).cuda(), torch.cuda.Event()
        torch.cuda._sleep(200_000_000)  # cycles: about a tenth of a second
        cuda.summarise_async(x, unit_dim=1)
        done.record()
        assert not done.query()

    def test_what_happens_to_the_tensor_afterwards_does_not_matter(self):
        x = normal(2_000, 30).cuda()
        before = x.clone()
        pending = cuda.summarise_async(x, unit_dim=1)
        x.zero_()
        check(cuda.collect([pending])[0], before, unit_dim=1)

    def test_handles_of_several_streams(self):
        tensors, pending = [normal(2_000, k).cuda() for k in (30, 31, 32)], []
        torch.cuda.synchronize()
        for x in tensors:
            with torch.cuda.stream(torch.cuda.Stream()):
                torch.cuda._sleep(20_000_000)
                pending.append(cuda.summarise_async(x, unit_dim=1))
        for x, found in zip(tensors, cuda.collect(pending), strict=True):
            check(found, x, unit_dim=1)
