"""The compiled steps against the stacked ones, these against the lecture's loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unstuck.lm import compiled, stacked
from unstuck.lm.stages import STAGES, FloatArray, IntArray, Network, batches, rates, start

SYMBOLS = 27
Data = tuple[IntArray, IntArray]


@pytest.fixture(scope="module")
def data() -> Data:
    draw = np.random.default_rng(1)
    targets = draw.integers(SYMBOLS, size=500, dtype=np.int32)
    return draw.integers(SYMBOLS, size=(500, 3), dtype=np.int32), targets


def networks(*seeds: int, symbols: int = SYMBOLS) -> list[Network]:
    return [start(stage, seed, symbols) for stage in STAGES.values() for seed in seeds]


def draws(*seeds: int) -> list[IntArray]:
    return [batches(seed, 0, 500) for _ in STAGES for seed in seeds]


def equal(one: Network, other: Network) -> bool:
    return all(np.array_equal(a, b) for (_, a), (_, b) in zip(one.arrays(), other.arrays(), strict=True))


def assert_close(one: Network, other: Network, tolerance: float) -> None:
    for (name, a), (_, b) in zip(one.arrays(), other.arrays(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)


def lecture(network: Network, data: Data, drawn: IntArray, rate: FloatArray) -> list[float]:
    """The lecture's loop as published, in float64; changes `network`."""
    x, y = (torch.from_numpy(a).long() for a in data)
    held = {name: torch.tensor(array, dtype=torch.float64) for name, array in network.arrays()}
    names = ["embedding", "hidden_weight", "output_weight", "output_bias"]
    names += ["gain", "shift"] if network.norm else ["hidden_bias"]
    parameters = [held[name].requires_grad_() for name in names]
    losses = []
    for batch, size in zip(torch.from_numpy(drawn).long(), rate.tolist(), strict=False):
        pre = held["embedding"][x[batch]].view(32, -1) @ held["hidden_weight"] + held["hidden_bias"]
        if network.norm:
            mean, std = pre.mean(0, keepdim=True), pre.std(0, keepdim=True)
            pre = held["gain"] * (pre - mean) / std + held["shift"]
            with torch.no_grad():
                held["running_mean"] = 0.999 * held["running_mean"] + 0.001 * mean[0]
                held["running_std"] = 0.999 * held["running_std"] + 0.001 * std[0]
        loss = F.cross_entropy(torch.tanh(pre) @ held["output_weight"] + held["output_bias"], y[batch])
        for p in parameters:
            p.grad = None
        loss.backward()
        for p in parameters:
            p.data += -size * p.grad
        losses.append(loss.item())
    for name, array in network.arrays():
        array[:] = held[name].detach().numpy()
    return losses


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_one_compiled_step_is_autograds(stage, data: Data) -> None:
    """With a rate of 1, what a step adds is minus the gradient; within 2e-6 of the largest number in float64."""
    one, truth = start(stage, 0, SYMBOLS), start(stage, 0, SYMBOLS)
    before = deepcopy(one)
    rate = np.ones(1, np.float32)
    (losses,) = compiled.advance([one], *data, [batches(0, 0, 500)], rate)
    assert losses[0] == pytest.approx(lecture(truth, data, batches(0, 0, 500), rate)[0], rel=2e-6)
    for (name, a), (_, b), (_, c) in zip(one.arrays(), truth.arrays(), before.arrays(), strict=True):
        largest = max(np.abs(b - c).max(), np.abs(c).max())
        np.testing.assert_allclose(a - c, b - c, rtol=0, atol=2e-6 * largest, err_msg=name)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_a_hundred_stacked_steps_in_float64_are_the_lectures(stage, data: Data) -> None:
    one, truth = start(stage, 0, SYMBOLS), start(stage, 0, SYMBOLS)
    rate = rates(0, 100, 150)
    (losses,) = stacked.advance([one], *data, [batches(0, 0, 500)], rate, dtype=torch.float64)
    np.testing.assert_allclose(losses, lecture(truth, data, batches(0, 0, 500), rate), rtol=1e-6)
    assert_close(one, truth, 1e-6)


@pytest.mark.parametrize(("stages", "steps", "tolerance"), [((1, 2, 3, 4), 100, 2e-5), ((0,), 20, 1e-3)])
def test_compiled_steps_are_the_stacked_ones(stages: tuple[int, ...], steps: int, tolerance: float, data: Data) -> None:
    """Stage 1 is chaotic: its logits begin at ±30, and in float32 the stacked form drifts as far from float64."""
    fast, slow = ([networks(0, 1)[2 * stage + seed] for stage in stages for seed in (0, 1)] for _ in range(2))
    drawn, rate = draws(0, 1)[: len(fast)], rates(0, steps, 1000)
    one = compiled.advance(fast, *data, drawn, rate)
    two = stacked.advance(slow, *data, drawn, rate, dtype=torch.float64)
    np.testing.assert_allclose(one, two, rtol=0, atol=tolerance)
    for a, b in zip(fast, slow, strict=True):
        assert_close(a, b, tolerance)


@pytest.mark.parametrize("symbols", [2, 28, 61])
@pytest.mark.parametrize("advance", [compiled.advance, stacked.advance])
def test_alphabets_of_any_size(advance: Callable[..., list[FloatArray]], symbols: int) -> None:
    """After so few steps the loss of the second stage is still near ln(V); padded symbols take no part."""
    draw = np.random.default_rng(2)
    data = draw.integers(symbols, size=(90, 3), dtype=np.int32), draw.integers(symbols, size=90, dtype=np.int32)
    network = start(STAGES["batchnorm"], 0, symbols)
    (losses,) = advance([network], *data, [batches(0, 0, 90)], rates(0, 3, 10))
    assert losses[0] == pytest.approx(math.log(symbols), abs=0.15)
    slow = start(STAGES["batchnorm"], 0, symbols)
    stacked.advance([slow], *data, [batches(0, 0, 90)], rates(0, 3, 10), dtype=torch.float64)
    assert_close(network, slow, 1e-5)


def test_neither_threads_nor_neighbours_change_a_bit(data: Data) -> None:
    rate = rates(0, 20, 40)
    alone, among, threaded = networks(0), networks(0, 1), networks(0, 1)
    first = compiled.advance(alone, *data, draws(0), rate)
    second = compiled.advance(among, *data, draws(0, 1), rate)
    third = compiled.advance(threaded, *data, draws(0, 1), rate, threads=3)
    for k, network in enumerate(alone):
        assert equal(network, among[2 * k])
        assert equal(network, threaded[2 * k])
        np.testing.assert_array_equal(first[k], second[2 * k])
        np.testing.assert_array_equal(first[k], third[2 * k])


def test_two_halves_are_a_whole(data: Data) -> None:
    whole, halves = networks(0), networks(0)
    drawn, rate = draws(0), rates(0, 20, 40)
    compiled.advance(whole, *data, drawn, rate)
    compiled.advance(halves, *data, drawn, rate[:9])
    compiled.advance(halves, *data, [d[9:] for d in drawn], rate[9:])
    assert all(equal(a, b) for a, b in zip(whole, halves, strict=True))


def test_what_a_stage_does_not_train_stays(data: Data) -> None:
    plain, norm = start(STAGES["kaiming"], 0, SYMBOLS), start(STAGES["batchnorm"], 0, SYMBOLS)
    for advance in (compiled.advance, stacked.advance):
        advance([plain, norm], *data, [batches(0, 0, 500)] * 2, rates(0, 5, 10))
    assert (plain.gain == 1).all()
    assert not plain.shift.any()
    assert (plain.running_std == 1).all()
    assert not norm.hidden_bias.any()
    assert norm.running_mean.any()


def test_preparing_compiles_all_that_training_needs(data: Data) -> None:
    compiled.prepare()
    signatures = list(compiled._train.signatures)
    compiled.advance(networks(0), *data, [d[3:] for d in draws(0)], rates(0, 2, 4))
    assert compiled._train.signatures == signatures


def test_tanh_over_its_whole_range() -> None:
    values = np.concatenate([np.linspace(-12, 12, 7999), np.geomspace(1e-30, 1e3, 200), [0.0, -0.0, 3e38, -3e38]])
    x = np.resize(values, (41, 200)).astype(np.float32)
    wanted = np.tanh(x.astype(np.float64))
    compiled._tanh(x)
    np.testing.assert_allclose(x, wanted, rtol=4e-7, atol=1e-7)


def test_a_network_that_diverges_says_so(data: Data) -> None:
    network = start(STAGES["original"], 0, SYMBOLS)
    network.output_weight[:] = np.nan
    (losses,) = compiled.advance([network], *data, [batches(0, 0, 500)], rates(0, 2, 4))
    assert np.isnan(losses).all()
