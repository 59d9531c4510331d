import math

import pytest
import torch

from unstuck.fixes.targets import TARGET_STD, rescale


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_outputs_get_the_target_spread():
    x, w, b = normal(500, 30), normal(30, 20, seed=1), normal(20, seed=2)
    before = (x @ w + b).std(correction=0).item()
    assert rescale(w, [b], before) == TARGET_STD / before
    assert (x @ w + b).std(correction=0).item() == pytest.approx(1)


def test_weight_and_every_bias_keep_their_direction():
    w, biases = normal(3, 4), [normal(4, seed=1), normal(1, seed=2)]
    expected = [p / 4 for p in (w, *biases)]
    assert rescale(w, biases, 4.0) == 0.25
    assert all(torch.equal(p, e) for p, e in zip((w, *biases), expected, strict=True))


def test_small_outputs_grow():
    w = torch.ones(2, 2)
    assert rescale(w, [], 0.5) == 2.0
    assert torch.equal(w, torch.full((2, 2), 2.0))


def test_autograd_does_not_notice():
    w = normal(2, 2).requires_grad_()
    loss = (w * w).sum()
    rescale(w, [], 2.0)
    assert (w._version, w.grad_fn, w.requires_grad) == (0, None, True)
    loss.backward()


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused_and_nothing_changed(std):
    w = torch.ones(2, 2)
    with pytest.raises(ValueError, match=rf"^cannot rescale a layer whose pre-activations have std {std}$"):
        rescale(w, [], std)
    assert torch.equal(w, torch.ones(2, 2))
