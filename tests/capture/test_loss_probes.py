"""The numbers that the rules of losses need beyond summaries, against values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.session import Session
from unstuck.trace import Kind

from .watching import X, Y, leaf, traced

GENERATOR = torch.Generator().manual_seed(11)
IDS = torch.randint(0, 9, (6, 5), generator=GENERATOR)


def loss_of(trace):
    (site,) = trace.of_kind(Kind.LOSS)
    return site


def scalar(trace, name):
    return trace.scalar(loss_of(trace), name)


def last(trace, site, name):
    return [tuple(vector) for _, vector in trace.vectors(site, name)][-1]


class TestShapes:
    def test_of_predictions_and_targets(self):
        w = leaf(4, 1)
        trace = traced(lambda: F.mse_loss(X @ w, X[:, 0][:, None]).backward())
        assert last(trace, loss_of(trace), "prediction_shape") == (8, 1)
        assert last(trace, loss_of(trace), "target_shape") == (8, 1)

    @pytest.mark.filterwarnings("ignore:Implicit dimension choice", "ignore:Using a target size")
    @pytest.mark.parametrize(
        ("softmax", "dim"),
        [
            (lambda h: F.softmax(h, dim=0), 0),
            (lambda h: F.softmax(h, -1), 1),
            (lambda h: h.log_softmax(1), 1),
            (lambda h: torch.softmax(h[None], dim=-2), 1),
            (lambda h: F.softmax(h), 1),
            (lambda h: F.softmax(h[None]), 0),
            (nn.Softmax(dim=0), 0),
        ],
    )
    def test_of_a_softmax(self, softmax, dim):
        w = leaf(4, 3)
        trace = traced(lambda: softmax(X @ w).square().sum().backward())
        (site,) = trace.of_kind(Kind.SOFTMAX)
        assert trace.scalar(site, "dim") == dim
        assert last(trace, site, "shape")[-2:] == (8, 3)

    def test_a_difference_of_a_column_and_a_row(self):
        w = leaf(4, 1)
        y = X[:, 0].clone()
        trace = traced(lambda: (X @ w - y).square().mean().backward())
        (site,) = trace.of_kind(Kind.OPERATION)
        assert (last(trace, site, "prediction_shape"), last(trace, site, "target_shape")) == ((8, 1), (8,))

    def test_a_difference_the_other_way_round(self):
        w = leaf(4, 1)
        y = X[:, :1].clone()
        trace = traced(lambda: (y - (X @ w).squeeze(1)).abs().mean().backward())
        (site,) = trace.of_kind(Kind.OPERATION)
        assert (last(trace, site, "prediction_shape"), last(trace, site, "target_shape")) == ((8,), (8, 1))

    @pytest.mark.parametrize(
        "difference",
        [
            lambda p, y: p - y[:, None],
            lambda p, y: p.squeeze(1) - y,
            lambda p, y: p - p.squeeze(1),  # all pairs of scores
            lambda p, y: p - y[:5],  # distances to five places
            lambda p, y: (p - y).detach() * p,
            lambda p, y: 2 * p - y,  # something was computed from the output before
            lambda p, y: y[:, None] - y + p,  # of data
        ],
    )
    def test_differences_that_are_meant(self, difference):
        w, y = leaf(4, 1), X[:, 0].clone()
        trace = traced(lambda: difference(X @ w, y).square().mean().backward())
        sites = trace.of_kind(Kind.OPERATION)
        assert [vectors for site in sites for vectors in trace.vectors(site, "prediction_shape")] == []


class TestMass:
    def test_log_softmax(self):
        w = leaf(4, 3)
        trace = traced(lambda: F.nll_loss((X @ w).log_softmax(1), Y).backward())
        assert scalar(trace, "mass_off") == 0
        assert scalar(trace, "mass") == pytest.approx(1)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_not_held_against_it(self, dtype):
        w = torch.randn(4, 500, generator=GENERATOR).requires_grad_()
        trace = traced(lambda: F.nll_loss((X @ w).log_softmax(1).to(dtype), Y).backward())
        assert scalar(trace, "mass_off") == 0

    def test_raw_scores(self):
        w = leaf(4, 3)
        trace = traced(lambda: F.nll_loss(X @ w, Y).backward())
        sums = (X @ w).exp().sum(1)
        assert scalar(trace, "mass") == pytest.approx(sums.median().item())
        assert scalar(trace, "mass_off") == pytest.approx(((sums - 1).abs() > 0.01).double().mean().item())

    def test_classes_along_the_second_of_three_dimensions(self):
        w, y = leaf(4, 3), torch.zeros(2, 4, dtype=torch.long)
        trace = traced(lambda: F.nll_loss((X @ w).view(2, 4, 3).log_softmax(2).transpose(1, 2), y).backward())
        assert scalar(trace, "mass_off") == 0

    def test_struck_out_after_the_softmax(self):
        w = leaf(4, 3)
        closed = torch.tensor([True, False, False])
        y = Y.clamp(min=1)
        trace = traced(lambda: F.nll_loss((X @ w).log_softmax(1).masked_fill(closed, -math.inf), y).backward())
        assert scalar(trace, "mass_off") == 1
        assert scalar(trace, "mass") == pytest.approx((X @ w).softmax(1)[:, 1:].sum(1).median().item())


class TestTargetsBeyond:
    @pytest.mark.parametrize(
        ("last_function", "low", "high"),
        [(torch.sigmoid, 0, 1), (torch.tanh, -1, 1), (F.relu, 0, math.inf), (F.softplus, 0, math.inf), (F.relu6, 0, 6)],
    )
    def test_the_range(self, last_function, low, high):
        w, y = leaf(4, 3), 4 * torch.randn(8, 3, generator=GENERATOR)
        trace = traced(lambda: F.mse_loss(last_function(X @ w), y).backward())
        margin = 0.01 * y.std(correction=0)
        beyond = (y < low - margin) | (y > high + margin)
        assert scalar(trace, "targets_beyond") == pytest.approx(beyond.double().mean().item())

    def test_nothing_to_say_of_a_linear_or_scaled_output(self):
        w, y = leaf(4, 3), torch.randn(8, 3, generator=GENERATOR)
        assert scalar(traced(lambda: F.mse_loss(X @ w, y).backward()), "targets_beyond") is None
        assert scalar(traced(lambda: F.mse_loss(3 * torch.tanh(X @ w), y).backward()), "targets_beyond") is None

    def test_missing_targets_do_not_count(self):
        w, y = leaf(4, 3), torch.full((8, 3), 0.5)
        y[0] = math.nan
        trace = traced(lambda: F.l1_loss(torch.sigmoid(X @ w), y).nansum().backward())
        assert scalar(trace, "targets_beyond") == 0


class TestBestConstant:
    def test_class_frequencies(self):
        w = leaf(4, 3)
        trace = traced(lambda: F.cross_entropy(X @ w, Y).backward())
        share = torch.bincount(Y, minlength=3) / 8
        assert scalar(trace, "constant_baseline") == pytest.approx(-(share * share.clamp(1e-9).log()).sum().item())

    def test_ignored_labels_and_weights(self):
        w, y, weight = leaf(4, 3), torch.tensor([0, 0, 1, -100, 0, 1, 2, -100]), torch.tensor([1.0, 2.0, 4.0])
        trace = traced(lambda: F.nll_loss((X @ w).log_softmax(1), y, weight, reduction="sum").backward())
        flat = (torch.tensor([3, 2, 1]) / 6).log().expand(8, 3)
        assert scalar(trace, "constant_baseline") == pytest.approx(
            F.nll_loss(flat, y, weight, reduction="sum").item() / 6, rel=1e-6
        )

    def test_mean_of_each_column(self):
        w = leaf(4, 3)
        y = torch.randn(8, 3, generator=GENERATOR) + torch.tensor([0.0, 100.0, -5.0])
        trace = traced(lambda: F.mse_loss(X @ w, y).backward())
        assert scalar(trace, "constant_baseline") == pytest.approx(y.var(0, correction=0).mean().item(), rel=1e-5)

    @pytest.mark.parametrize("logits", [True, False])
    def test_frequency_of_each_label(self, logits):
        w, y = leaf(4, 2), torch.tensor([[0.0, 1.0]] * 2 + [[1.0, 1.0]] * 6)
        if logits:
            trace = traced(lambda: F.binary_cross_entropy_with_logits(X @ w, y).backward())
        else:
            trace = traced(lambda: F.binary_cross_entropy((X @ w).sigmoid(), y).backward())
        entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / 2  # the second label is always one
        assert scalar(trace, "constant_baseline") == pytest.approx(entropy, abs=1e-4)

    def test_only_at_the_start(self):
        w = leaf(4, 3)
        optimizer = torch.optim.SGD([w], lr=0.1)

        def step():
            optimizer.zero_grad()
            F.cross_entropy(X @ w, Y).backward()
            optimizer.step()

        trace = traced(step, times=3)
        assert [step for step, _ in trace.scalars(loss_of(trace), "constant_baseline")] == [0]


class TestIdentity:
    def lm(self, ids, targets, **kwargs):
        table, head = leaf(9, 4), leaf(4, 9)
        return traced(
            lambda: F.cross_entropy((table[ids] @ head).flatten(0, 1), targets.flatten(), **kwargs).backward()
        )

    def test_the_same_position(self):
        trace = self.lm(IDS, IDS)
        (embedding,) = trace.of_kind(Kind.EMBEDDING)
        assert scalar(trace, "identity_share") == 1
        assert scalar(trace, "identity_embedding") == embedding.index
        assert scalar(trace, "identity_shifted") == 0

    def test_one_later(self):
        trace = self.lm(IDS[:, :-1], IDS[:, 1:])
        inputs, targets = IDS[:, :-1], IDS[:, 1:].flatten()
        orders = [(x.flatten() == targets).double().mean().item() for x in (inputs, inputs.T)]
        assert scalar(trace, "identity_share") == pytest.approx(max(orders))

    def test_only_what_counts(self):
        targets = torch.where(torch.arange(5) % 2 == 0, IDS, -100)
        assert scalar(self.lm(IDS, targets), "identity_share") == 1
        hidden = torch.where(torch.arange(5) % 2 == 0, 8, IDS)
        table, head = leaf(9, 4), leaf(4, 9)
        trace = traced(lambda: F.cross_entropy((table[hidden] @ head).transpose(1, 2), targets).backward())
        assert scalar(trace, "identity_share") == pytest.approx((hidden == IDS)[:, ::2].double().mean().item())

    def test_time_first(self):
        assert scalar(self.lm(IDS.T, IDS.T), "identity_share") == 1

    def test_a_decoder_that_is_fed_the_targets_one_later(self):
        table, head = leaf(9, 4), leaf(4, 9)
        fed = torch.cat([torch.zeros(6, 1, dtype=torch.long), IDS[:, :-1]], 1)
        trace = traced(
            lambda: F.cross_entropy(
                ((table[IDS].mean(1, keepdim=True) + F.embedding(fed, table)) @ head).transpose(1, 2), IDS
            ).backward()
        )
        assert scalar(trace, "identity_share") == 1
        assert scalar(trace, "identity_shifted") == 1

    def test_labels_of_single_examples_are_no_sequence(self):
        table, head = leaf(9, 4), leaf(4, 9)
        trace = traced(lambda: F.cross_entropy(table[IDS[:, 0]] @ head, IDS[:, 0]).backward())
        assert scalar(trace, "identity_share") is None


class TestHidden:
    MASK = torch.arange(5) % 2 == 0

    def hidden(self, change):
        table = leaf(9, 4)
        trace = traced(lambda: change(table[IDS]).square().sum().backward())
        return trace.scalar(trace.of_kind(Kind.EMBEDDING)[0], "hidden")

    @pytest.mark.parametrize(
        "change",
        [
            lambda e: torch.where(TestHidden.MASK[:, None], leaf(4), e),
            lambda e: e.masked_fill(TestHidden.MASK[:, None], 0.0),
            lambda e: (e + leaf(5, 4)) * TestHidden.MASK[:, None],
        ],
    )
    def test_replaced_or_multiplied_by_zero(self, change):
        assert self.hidden(change) == 1

    @pytest.mark.parametrize("change", [lambda e: 2 * e, lambda e: e * torch.full((4,), 0.5), lambda e: e * leaf(4)])
    def test_scaled(self, change):
        assert self.hidden(change) is None

    def test_written_into(self):
        def write(e):
            e = e.clone()
            e[:, 0] = 0.0
            return e

        assert self.hidden(write) == 1


class TestData:
    def test_targets_that_are_the_input(self):
        w = leaf(4, 4)
        assert scalar(traced(lambda: F.mse_loss(X @ w, X).backward()), "target_is_data") == 1
        assert scalar(traced(lambda: F.mse_loss(X @ w, X + 1e-6).backward()), "target_is_data") == 0

    def test_some_of_the_input_at_unknown_places(self):
        w, hidden = leaf(4, 4), X > 0
        trace = traced(lambda: F.mse_loss((X @ w)[hidden], X[hidden]).backward())
        assert scalar(trace, "target_among_data") == 1
        assert scalar(trace, "target_distinct") == 1
        trace = traced(lambda: F.mse_loss((X * ~hidden @ w)[hidden], X[hidden]).backward())
        assert scalar(trace, "target_among_data") == 0

    def test_coarse_targets_are_not_distinct(self):
        w, y = leaf(4, 4), X.round()
        assert scalar(traced(lambda: F.mse_loss(y @ w, y).backward()), "target_distinct") < 0.5

    def rows(self, a, b):
        w = leaf(4, 4)
        return scalar(
            traced(lambda: F.cross_entropy((a @ w) @ (b @ w).T, torch.zeros(len(a)).long()).backward()), "rows_repeated"
        )

    def test_rows_of_one_batch_in_another(self):
        apart = torch.randn(8, 4, generator=GENERATOR)
        assert self.rows(X[:4], X) == 1
        assert self.rows(X[:4], X.flip(0)) == 1
        assert self.rows(X, torch.cat([apart, X[:4]])) == 0.5
        assert self.rows(X, apart) == 0

    def test_the_same_batch_given_twice_shares_nothing(self):
        assert self.rows(X, X) == 0
        assert self.rows(X, X.clone()) == 0

    def test_nothing_of_a_pass_is_kept(self):
        w = leaf(4, 4)
        with Session() as session:
            F.mse_loss(X @ w, X).backward()
            torch.optim.SGD([w], lr=0.1).step()
            assert "given" not in session._recorder.notes
