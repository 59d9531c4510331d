"""Numbers of the probes for residual sums, different rows and effective ranks, against values computed by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unstuck.capture.probes.rank import MAX_ROWS, effective_rank, is_due
from unstuck.capture.probes.variety import marks
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind

from .watching import X, Y, leaf, traced


def one(trace, site, name):
    ((_, values),) = trace.vectors(site, name)
    return [int(value) for value in values]


class TestSums:
    """Additions of two tensors that sites made."""

    @pytest.mark.parametrize("form", ["operator", "function", "in place", "flipped"])
    def test_residual(self, form):
        stem, up, down, head = leaf(4, 6), leaf(6, 7), leaf(7, 6, scale=2.0), leaf(6, 3)
        seen = []

        def step():
            h = X @ stem
            branch = torch.relu(h @ up) @ down
            match form:
                case "operator":
                    total = h + branch
                case "function":
                    total = torch.add(h, branch)
                case "in place":
                    total = h.clone()
                    total += branch
                case "flipped":
                    total = branch + h
            seen.append(total.detach().clone())
            F.cross_entropy(total @ head, Y).backward()

        trace = traced(step)
        layers = trace.of_kind(Kind.WEIGHT_LAYER)
        (site,) = trace.of_kind(Kind.ADDITION)
        assert trace.scalar(site, "std") == pytest.approx(float(seen[0].std(correction=0)))
        first, second = one(trace, site, "first_from"), one(trace, site, "second_from")
        if form == "flipped":
            first, second = second, first
        assert second == [layers[2].index]
        assert layers[0].index in first
        assert not [edge for edge in trace.edges if site.index in (edge.producer, edge.consumer)]

    def test_what_comes_after_follows_the_layers(self):
        stem, branch, head = leaf(4, 6), leaf(6, 6), leaf(6, 3)

        def step():
            h = X @ stem
            h = h + torch.relu(h @ branch)
            F.cross_entropy(h @ head, Y).backward()

        trace = traced(step)
        kinds = {site.kind for site in trace.producers(trace.of_kind(Kind.WEIGHT_LAYER)[-1], direct=False)}
        assert kinds == {Kind.WEIGHT_LAYER, Kind.ACTIVATION}

    def test_biases_data_and_other_shapes_are_none(self):
        w, bias, noise = leaf(4, 3), leaf(3), torch.randn(8, 3, generator=torch.Generator().manual_seed(1))

        def step():
            h = X @ w + bias
            h = h + noise
            h = h + h.mean(0)
            F.cross_entropy(h + 1.0, Y).backward()

        assert traced(step).of_kind(Kind.ADDITION) == []

    def test_only_in_the_first_step(self):
        a, b = leaf(4, 3), leaf(4, 3)
        parameters = torch.optim.SGD([a, b], lr=0.1)

        def step():
            F.cross_entropy(X @ a + X @ b, Y).backward()
            parameters.step()
            parameters.zero_grad()

        trace = traced(step, times=3)
        (site,) = trace.of_kind(Kind.ADDITION)
        assert [step for step, _ in trace.scalars(site, "std")] == [0]


class TestRows:
    """Marks of the rows of data."""

    def test_equal_rows_have_equal_marks(self):
        w = leaf(4, 3)
        x = X[[0, 1, 0, 2, 1, 0, 3, 3]]
        trace = traced(lambda: F.cross_entropy(x @ w, Y).backward())
        ((_, known),) = trace.vectors(trace.of_kind(Kind.WEIGHT_LAYER)[0], "row_marks")
        assert [list(known).index(mark) for mark in known] == [0, 1, 0, 3, 1, 0, 6, 6]

    def test_token_numbers(self):
        table = leaf(9, 3)
        tokens = torch.tensor([[1, 2], [2, 1], [1, 2], [8, 8]])
        trace = traced(lambda: F.embedding(tokens, table).sum().backward())
        ((_, known),) = trace.vectors(trace.of_kind(Kind.EMBEDDING)[0], "row_marks")
        assert len(set(known)) == 3
        assert known[0] == known[2]

    @pytest.mark.parametrize("shape", [(64,), (64, 1), (64, 3), (64, 5000), (64, 3, 40, 40)])
    def test_random_rows_differ_whatever_batch_they_are_in(self, shape):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        known = marks(x)
        assert len(np.unique(known.numpy())) == 64
        assert torch.equal(marks(x[10:20]), known[10:20])

    def test_single_features_of_whole_numbers(self):
        assert len(marks(torch.eye(40)).unique()) == 40
        assert len(marks(torch.arange(50)).unique()) == 50

    def test_what_the_network_made_has_none(self):
        a, b = leaf(4, 5), leaf(5, 3)
        trace = traced(lambda: F.cross_entropy((X @ a).relu() @ b, Y).backward())
        first, second = trace.of_kind(Kind.WEIGHT_LAYER)
        assert trace.vectors(first, "row_marks")
        assert not trace.vectors(second, "row_marks")


class TestRank:
    """The effective rank of outputs."""

    @pytest.mark.parametrize("directions", [1, 3, 20])
    def test_as_many_equal_directions_as_there_are(self, directions):
        generator = torch.Generator().manual_seed(2)
        basis = torch.linalg.qr(torch.randn(40, directions, generator=generator).double()).Q
        rows = torch.linalg.qr(torch.randn(64, 21, generator=generator).double()).Q
        rows = rows - rows.mean(0)
        rows = torch.linalg.qr(rows).Q[:, :directions]
        assert effective_rank(rows @ basis.T + 5.0) == pytest.approx(directions, rel=1e-6)

    def test_against_the_definition(self):
        x = torch.randn(30, 50, generator=torch.Generator().manual_seed(3)).double() * torch.arange(50)
        values = np.linalg.eigvalsh(np.cov(x.numpy(), rowvar=False))
        shares = values[values > 1e-9] / values[values > 1e-9].sum()
        assert effective_rank(x) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())))

    def test_rows_that_are_all_the_same(self):
        assert effective_rank(torch.ones(40, 40).double()) == 0.0
        assert effective_rank(torch.zeros(40, 40).double()) == 0.0

    def test_only_of_wide_last_layers(self):
        hidden, last, x = leaf(4, 40), leaf(40, 50), torch.randn(200, 4, generator=torch.Generator().manual_seed(4))
        optimizer, outputs = torch.optim.SGD([hidden, last], lr=0.01), {}

        with Session() as session:
            for number in range(11):
                code = torch.relu(x @ hidden) @ last
                outputs[number] = code.detach()
                code.square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        first, second = session.trace.of_kind(Kind.WEIGHT_LAYER)
        assert session.trace.facts.internal_error is None
        assert [step for step, _ in session.trace.scalars(first, "rank")] == [0]  # before it is known what follows
        ranks = session.trace.scalars(second, "rank")
        assert [step for step, _ in ranks] == [0, 5, 10]
        assert [rank for _, rank in ranks] == pytest.approx(
            [effective_rank(outputs[step][::2].double()) for step in (0, 5, 10)]
        )
        assert 200 / MAX_ROWS > 1
        assert session.trace.scalar(second, "rank_limit") == 50

    def test_small_layers_and_batches_have_none(self):
        w = leaf(4, 50)
        trace = traced(lambda: (X @ w).square().mean().backward())
        assert trace.scalars(trace.of_kind(Kind.WEIGHT_LAYER)[0], "rank") == []

    def test_due_steps_are_sampled_in_every_run(self):
        schedule = Schedule()
        sampled = {step for step in range(3000) if schedule.is_sampled(step)}
        due = {step for step in range(3000) if is_due(step)}
        assert due == {0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560}
        assert due <= sampled
