"""What a loss is given: scale of targets and predictions, counts of labels, against naive computations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.probes.data import bits
from unstuck.capture.probes.targets import MAX_CLASSES
from unstuck.trace import Kind, Role

from .watching import X, Y, leaf, traced

W = leaf(4, 3)
FLOATS = torch.randn(8, 3, generator=torch.Generator().manual_seed(5)) * 7 + 2
SCALARS = ("target_min", "target_max", "target_mean", "target_std")


def loss_of(step, times=1):
    trace = traced(step, times)
    (loss,) = trace.of_kind(Kind.LOSS)
    return trace, loss


def scale(trace, loss, step=0):
    return [trace.scalar(loss, name, step) for name in SCALARS]


def naive(x):
    x = np.asarray(x, dtype=np.float64)
    return [x.min(), x.max(), x.mean(), x.std()]


class TestScale:
    @pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss])
    def test_of_a_regression(self, loss):
        trace, site = loss_of(lambda: loss(X @ W, FLOATS).backward())
        np.testing.assert_allclose(scale(trace, site), naive(FLOATS), rtol=1e-6)
        assert trace.scalar(site, "target_elements") == 24
        assert trace.scalar(site, "target_bits") == bits(FLOATS)

    def test_of_labels(self):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, Y).backward())
        np.testing.assert_allclose(scale(trace, site), naive(Y))

    def test_target_given_by_name(self):
        trace, site = loss_of(lambda: F.mse_loss(X @ W, target=FLOATS).backward())
        np.testing.assert_allclose(scale(trace, site), naive(FLOATS), rtol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_in_other_types(self, dtype):
        target = FLOATS.to(dtype)
        trace, site = loss_of(lambda: F.mse_loss((X @ W).to(dtype), target).backward())
        np.testing.assert_allclose(scale(trace, site), naive(target.double()), rtol=1e-9)

    def test_of_one_element(self):
        trace, site = loss_of(lambda: F.mse_loss((X @ W).mean(), torch.tensor(3.0)).backward())
        assert scale(trace, site) == [3.0, 3.0, 3.0, 0.0]

    def test_leaves_out_what_is_not_finite(self):
        target = FLOATS.clone()
        target[0, 0], target[1, 1] = torch.nan, torch.inf
        trace, site = loss_of(lambda: F.mse_loss(X @ W, target).nan_to_num().backward())
        np.testing.assert_allclose(scale(trace, site), naive(target[target.isfinite()]), rtol=1e-6)

    def test_when_nothing_is_finite(self):
        trace, site = loss_of(lambda: F.mse_loss(X @ W, torch.full((8, 3), torch.nan)).backward())
        assert scale(trace, site) == [None] * 4
        assert trace.scalar(site, "target_elements") == 24

    def test_predictions(self):
        trace, site = loss_of(lambda: F.mse_loss(X @ W, FLOATS).backward())
        summary, made = trace.summary(site, Role.INPUT), (X @ W).detach().double().numpy()
        np.testing.assert_allclose([summary.mean, summary.std], [made.mean(), made.std()], rtol=1e-5)
        assert summary.units is None

    def test_extremes_of_all_calls_of_a_step(self):
        w = leaf(4, 3)
        optimizer = torch.optim.SGD([w], lr=0.1)

        def step():
            for target in (torch.zeros(8, 3), torch.ones(8, 3)):
                F.binary_cross_entropy_with_logits(X @ w, target).backward()
            optimizer.step()

        trace, site = loss_of(step)
        assert scale(trace, site)[:3] == [0.0, 1.0, 1.0]


def counts(trace, loss, step=0):
    return [
        None if (v := trace.vector(loss, f"{name}_counts", step)) is None else v.tolist()
        for name in ("label", "predicted")
    ]


class TestCounts:
    def test_of_cross_entropy(self):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, Y).backward())
        guesses = (X @ W).argmax(1).tolist()
        assert counts(trace, site) == [[Y.tolist().count(k) for k in range(3)], [guesses.count(k) for k in range(3)]]

    def test_of_nll_loss(self):
        trace, site = loss_of(lambda: F.nll_loss(F.log_softmax(X @ W, 1), Y).backward())
        assert sum(counts(trace, site)[0]) == sum(counts(trace, site)[1]) == 8

    @pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.0, 5.0])])
    def test_weights_change_nothing(self, weight):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, Y, weight=weight).backward())
        assert counts(trace, site)[0] == [Y.tolist().count(k) for k in range(3)]
        assert trace.scalar(site, "weighted") == float(weight is not None)

    def test_a_weight_for_the_positive_class(self):
        yes = (Y > 0).float()
        for weight, weighted in ((None, 0.0), (torch.tensor(3.0), 1.0)):
            trace, site = loss_of(
                lambda w=weight: F.binary_cross_entropy_with_logits((X @ W)[:, 0], yes, pos_weight=w).backward()
            )
            assert trace.scalar(site, "weighted") == weighted

    @pytest.mark.parametrize("ignored", [-100, -1, 0])
    def test_ignored_labels_and_the_predictions_for_them_are_left_out(self, ignored):
        target = Y.clone()
        target[:5] = ignored
        pairs = zip(target.tolist(), (X @ W).argmax(1).tolist(), strict=True)
        kept = [pair for pair in pairs if pair[0] != ignored]
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, target, ignore_index=ignored).backward())
        expected = [[pair[side] for pair in kept] for side in (0, 1)]
        assert counts(trace, site) == [[values.count(k) for k in range(3)] for values in expected]

    def test_ignored_label_given_by_position(self):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, Y, None, None, int(Y[0])).backward())
        assert counts(trace, site)[0][int(Y[0])] == 0

    def test_every_label_ignored(self):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, torch.full_like(Y, -100)).nan_to_num().backward())
        assert counts(trace, site) == [None, None]

    def test_of_pixels(self):
        conv = nn.Conv2d(1, 3, 1)
        image, target = torch.randn(2, 1, 4, 4), torch.randint(0, 3, (2, 4, 4))
        trace, site = loss_of(lambda: F.cross_entropy(conv(image), target).backward())
        guesses = conv(image).argmax(1)
        assert counts(trace, site) == [t.flatten().bincount(minlength=3).tolist() for t in (target, guesses)]

    def test_of_a_single_example(self):
        trace, site = loss_of(lambda: F.cross_entropy((X @ W)[0], Y[0]).backward())
        assert [sum(c) for c in counts(trace, site)] == [1, 1]

    def test_probabilities_are_not_counted(self):
        trace, site = loss_of(lambda: F.cross_entropy(X @ W, torch.full((8, 3), 1 / 3)).backward())
        assert counts(trace, site) == [None, None]

    def test_binary_targets_are_not_counted(self):
        trace, site = loss_of(lambda: F.binary_cross_entropy_with_logits(X @ W, (FLOATS > 0).float()).backward())
        assert counts(trace, site) == [None, None]
        assert scale(trace, site)[:2] == [0.0, 1.0]

    def test_long_vocabularies_are_not_counted(self):
        wide = leaf(4, MAX_CLASSES + 1)
        trace, site = loss_of(lambda: F.cross_entropy(X @ wide, Y).backward())
        assert counts(trace, site) == [None, None]

    def test_calls_of_a_step_are_counted_together(self):
        w = leaf(4, 3)
        optimizer = torch.optim.SGD([w], lr=0.1)

        def step():
            for half in (slice(0, 4), slice(4, 8)):
                F.cross_entropy(X[half] @ w, Y[half]).backward()
            optimizer.step()

        trace, site = loss_of(step, times=2)
        assert [counts(trace, site, k)[0] for k in (0, 1)] == [Y.bincount(minlength=3).tolist()] * 2


def test_an_evaluation_leaves_nothing():
    def step():
        with torch.no_grad():
            F.mse_loss(X @ W, FLOATS * 1e6)
        F.mse_loss(X @ W, FLOATS).backward()

    trace, site = loss_of(step)
    assert trace.scalar(site, "target_max") == float(FLOATS.double().max())
