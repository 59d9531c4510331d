import math

import pytest
import torch
import torch.nn.functional as F

from unstuck.fixes.shrink_output_layer import LOGIT_STD, log_prior, shrink


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


CROSS_ENTROPY, BINARY = "cross_entropy", "binary_cross_entropy_with_logits"


class TestLogPrior:
    @pytest.mark.parametrize(
        ("target", "classes", "op"),
        [
            (torch.arange(64) % 4, 4, CROSS_ENTROPY),
            (torch.tensor([0, 0, 1]), 4, CROSS_ENTROPY),
            (torch.rand(8, 4), 4, CROSS_ENTROPY),
            (torch.arange(64).float() % 2, 1, BINARY),
            (torch.full((64,), 3.0), 1, BINARY),
            (torch.zeros(7), 2, BINARY),
            (torch.zeros(64, dtype=torch.long), 5, CROSS_ENTROPY),
            (torch.tensor([0] * 60 + [1] * 4), 3, CROSS_ENTROPY),
            (torch.zeros(64), 1, BINARY),
            (torch.ones(64, 2), 2, BINARY),
        ],
        ids="even,few,soft,even yes,no probabilities,other shape,one class,class missing,no yes,no no".split(","),
    )
    def test_none_where_labels_say_nothing_beyond_chance(self, target, classes, op):
        assert log_prior(target, classes, op) is None

    def test_uneven_classes_give_their_smoothed_frequencies(self):
        target = torch.tensor([0] * 90 + [1] * 9 + [2] + [-100] * 5)
        expected = torch.tensor([91, 10, 2], dtype=torch.float64) / 103
        torch.testing.assert_close(log_prior(target, 3, CROSS_ENTROPY).softmax(0), expected)

    def test_a_rare_yes_gives_its_log_odds(self):
        target = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 5 + [[0.0, 0.0]] * 90)
        target[:50, 1] = (torch.arange(50) % 2).float() + 0  # column 1: not even, column 0: rare
        ones = target.sum(0)
        expected = torch.tensor([math.log((n + 1) / (101 - n)) for n in ones.tolist()], dtype=torch.float64)
        torch.testing.assert_close(log_prior(target, 2, BINARY), expected)

    def test_a_column_without_a_yes_gets_no_prior(self):
        target = torch.zeros(100, 2)
        target[:5, 0] = 1.0
        expected = torch.tensor([math.log(6 / 96), 0.0], dtype=torch.float64)
        torch.testing.assert_close(log_prior(target, 2, BINARY), expected)

    def test_the_loss_starts_lower_than_that_of_even_odds(self):
        target = torch.tensor([0] * 200 + [1] * 40 + [2] * 16)
        bias = log_prior(target, 3, CROSS_ENTROPY).float()
        assert F.cross_entropy(bias.expand(256, 3), target) < math.log(3) - 0.3
