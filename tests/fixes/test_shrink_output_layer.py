import math

import pytest
import torch
import torch.nn.functional as F

from unstuck.fixes.shrink_output_layer import LOGIT_STD, shrink


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_small_logits_keep_their_weights():
    w = normal(5, 3)
    before = w.clone()
    assert shrink(w, [], LOGIT_STD / 2) == 1.0
    assert torch.equal(w, before)


def test_a_layer_of_zeros_stays_so():
    w = torch.zeros(5, 3)
    assert shrink(w, [], 0.0) == 1.0
    assert not w.any()


@pytest.mark.parametrize("classes", [2, 27, 1000])
def test_the_loss_starts_at_its_baseline(classes):
    h, w, b = normal(256, 100), normal(100, classes, seed=1), normal(classes, seed=2)
    y = torch.randint(classes, (256,), generator=torch.Generator().manual_seed(3))
    logits = h @ w
    factor = shrink(w, [b], (logits - logits.mean(-1, keepdim=True)).pow(2).mean().sqrt().item())
    assert factor < 0.02
    assert not b.any()
    assert F.cross_entropy(h @ w + b, y).item() == pytest.approx(math.log(classes), abs=0.05)


def test_autograd_does_not_notice():
    w, b = normal(2, 2).requires_grad_(), normal(2).requires_grad_()
    loss = (w * w + b * b).sum()
    shrink(w, [b], 2.0)
    assert (w._version, b._version) == (0, 0)
    loss.backward()


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused_and_nothing_changed(std):
    w, b = torch.ones(2, 2), torch.ones(2)
    with pytest.raises(ValueError, match=rf"^cannot shrink an output layer whose logits have std {std}$"):
        shrink(w, [b], std)
    assert torch.equal(w, torch.ones(2, 2))
    assert torch.equal(b, torch.ones(2))
