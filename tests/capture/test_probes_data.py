"""Data that enters the network: its numbers against naive ones, its bits, and what counts as drawn from more."""

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unstuck.capture.probes.data import MAX_HASHED, bits
from unstuck.trace import Kind, Role

from .watching import X, Y, leaf, traced

IMAGES = (
    torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
)


LINEAR = nn.Linear(4, 3)
OPTIMIZER = torch.optim.SGD(LINEAR.parameters(), lr=0.1)


def train(x):
    LINEAR(x).square().mean().backward()
    OPTIMIZER.step()


def fed(trace):
    """The sites that took data, in order."""
    return [site for site in trace.sites if trace.scalars(site, "data_bits")]


def check_features(trace, x, dim):
    """The only site fed has the summary of `x`, and its features along `dim`."""
    (site,) = fed(trace)
    summary = trace.summary(site, Role.INPUT)
    flat = x.double().movedim(dim, -1).reshape(-1, x.shape[dim]).numpy()
    assert summary.count == x.numel()
    assert (summary.minimum, summary.maximum) == (flat.min(), flat.max())
    np.testing.assert_allclose([summary.mean, summary.std], [flat.mean(), flat.std()], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(summary.units.total, flat.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(summary.units.squares, (flat**2).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(summary.units.zeros, (flat == 0).sum(0))
    return site


W, V = leaf(4, 3), leaf(3, 4)
CONV = nn.Conv2d(3, 2, 3)
FORMS = {
    "@": lambda x: x @ W,
    "mm": lambda x: x.mm(W),
    "addmm": lambda x: torch.addmm(torch.zeros(3), x, W),
    "transposed": lambda x: x @ V.T,
    "linear": lambda x: F.linear(x, V),
    "module": lambda x: LINEAR(x),
    "three dimensions": lambda x: x.view(2, 4, 4) @ W,
}


class TestFeatures:
    @pytest.mark.parametrize("form", FORMS)
    def test_of_a_linear_map(self, form):
        check_features(traced(lambda: FORMS[form](X).square().mean().backward()), X, -1)

    def test_of_a_product_with_the_weight_on_the_left(self):
        columns = X.T.contiguous() * torch.tensor([1.0, 10.0, 100.0, 1000.0])[:, None]
        check_features(traced(lambda: (V @ columns).square().mean().backward()), columns, 0)

    def test_of_a_convolution_are_channels(self):
        check_features(traced(lambda: CONV(IMAGES).square().mean().backward()), IMAGES, 1)

    def test_of_a_batch_norm_are_channels(self):
        norm = nn.BatchNorm2d(3)
        site = check_features(traced(lambda: norm(IMAGES).square().mean().backward()), IMAGES, 1)
        assert site.kind is Kind.NORM

    @pytest.mark.parametrize("layer", [nn.GRU(4, 3), nn.LSTM(4, 3, batch_first=True), nn.RNN(4, 3)])
    def test_of_a_recurrent_layer(self, layer):
        x = X.view(2, 4, 4)
        check_features(traced(lambda: layer(x)[0].square().mean().backward()), x, -1)

    def test_in_bfloat16(self):
        x, w = X.bfloat16(), leaf(4, 3).detach().bfloat16().requires_grad_()
        check_features(traced(lambda: (x @ w).float().square().mean().backward()), x, -1)


class TestWhatIsNoData:
    def test_hidden_tensors(self):
        first, second, head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def step():
            h = second(torch.relu(first(X)))
            F.cross_entropy(head(torch.cat([h[:, :3], h[:, 3:].detach()], 1)), Y).backward()

        trace = traced(step)
        assert [site.path for site in fed(trace)] == ["Linear"]
        assert len([s for s in trace.of_kind(Kind.WEIGHT_LAYER) if trace.summaries(s, Role.INPUT)]) == 1

    def test_integers_have_bits_and_no_summary(self):
        table, head = nn.Embedding(9, 4), nn.Linear(4, 3)
        trace = traced(lambda: F.cross_entropy(head(table(Y)), Y).backward())
        (site,) = fed(trace)
        assert site.kind is Kind.EMBEDDING
        assert trace.summaries(site, Role.INPUT) == []
        assert trace.scalar(site, "data_bits") == bits(Y)

    def test_a_table_that_is_indexed(self):
        table = leaf(9, 3)
        trace = traced(lambda: F.cross_entropy(table[Y], Y).backward())
        assert [trace.scalar(site, "data_bits") for site in fed(trace)] == [bits(Y)]

    def test_data_with_a_gradient_of_its_own(self):
        x = X.clone().requires_grad_()
        assert fed(traced(lambda: LINEAR(x).square().mean().backward())) == []

    def test_sparse_data_is_passed_over(self):
        x = X.to_sparse()
        trace = traced(lambda: (x @ W).square().mean().backward())
        assert fed(trace) == []


class TestBits:
    def test_against_a_checksum_of_the_bytes(self):
        assert bits(X) == zlib.crc32(X.numpy().tobytes(), hash((8, 4)) & 0xFFFFFFFF)

    @pytest.mark.parametrize(
        "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64]
    )
    def test_one_element_changes_them_in_every_type(self, dtype):
        x = (X > 0).to(dtype)
        other = x.clone()
        other[3, 2] = 0 if bool(x[3, 2]) else 1
        assert bits(x) == bits(x.clone()) != bits(other)

    def test_shape_counts(self):
        assert len({bits(X), bits(X.view(4, 8)), bits(X.view(-1))}) == 3

    def test_layout_does_not(self):
        assert bits(X.T) == bits(X.T.contiguous()) != bits(X)
        z = torch.complex(X, X)
        assert bits(z.conj()) == bits(z.conj().resolve_conj())

    def test_large_data_is_compared_by_its_beginning(self):
        x = torch.zeros(40, MAX_HASHED // 16)
        first, last = x.clone(), x.clone()
        first[0, 0] = last[-1, -1] = 1
        assert bits(x) == bits(last) != bits(first)
        columns = x.T.contiguous().T
        assert not columns.is_contiguous()
        assert bits(columns) == bits(x)

    @pytest.mark.parametrize("x", [X.to_sparse(), torch.empty(3, device="meta")])
    def test_of_what_has_no_elements_in_memory(self, x):
        assert bits(x) is None

    def test_by_step(self):
        batches = [X, X, X + 1]
        trace = traced(lambda: train(batches.pop()), times=3)
        (site,) = fed(trace)
        assert [value for _, value in trace.scalars(site, "data_bits")] == [bits(X + 1), bits(X), bits(X)]


def drawn(step, times=1):
    trace = traced(step, times)
    return [value for site in fed(trace) for _, value in trace.scalars(site, "data_drawn")]


class TestDrawn:
    def test_all_data_at_once_is_not(self):
        assert drawn(lambda: train(X)) == [0.0]
        assert drawn(lambda: train(X * 2)) == [0.0]

    def test_a_training_split_is_not(self):
        assert drawn(lambda: train(X[:6])) == [0.0]
        assert drawn(lambda: train(X[torch.arange(6)])) == [0.0]

    @pytest.mark.parametrize(
        "take",
        [
            lambda data: data[:8],
            lambda data: data[torch.arange(8)],
            lambda data: data[[0, 3, 5]],
            lambda data: data.index_select(0, torch.arange(8)),
            lambda data: torch.index_select(data, 0, torch.arange(8)),
            lambda data: (data[:8] / 2).to(torch.float32).clone(),
        ],
    )
    def test_rows_of_something_larger(self, take):
        data = torch.randn(100, 4)
        assert drawn(lambda: train(take(data))) == [1.0]

    def test_columns_are_not_rows(self):
        data = torch.randn(8, 100)
        assert drawn(lambda: train(data[:, :4])) == [0.0]

    def test_rows_of_what_the_network_made(self):
        def step():
            big = torch.ones(100, 4) @ W
            (big[:8].sum() + LINEAR(X).sum()).backward()

        assert drawn(step) == [0.0, 0.0]

    def test_a_loader_of_several_batches(self):
        loader = DataLoader(TensorDataset(torch.randn(100, 4)), batch_size=8)
        assert drawn(lambda: train(next(iter(loader))[0])) == [1.0]

    def test_a_loader_of_one_batch(self):
        loader = DataLoader(TensorDataset(X), batch_size=8)
        assert drawn(lambda: train(next(iter(loader))[0])) == [0.0]

    def test_a_loader_that_does_not_know_its_length(self):
        class Stream(IterableDataset):
            def __iter__(self):
                return iter(X)

        loader = DataLoader(Stream(), batch_size=8)
        assert drawn(lambda: train(next(iter(loader)))) == [0.0]

    def test_another_loader_of_other_batches(self):
        loader = DataLoader(TensorDataset(torch.randn(100, 4)), batch_size=5)
        assert drawn(lambda: (next(iter(loader)), train(X))) == [0.0]

    def test_all_data_after_an_evaluation_in_batches_of_that_length(self):
        all_data, others = (DataLoader(TensorDataset(torch.randn(n, 4)), batch_size=8) for n in (8, 100))
        assert drawn(lambda: (list(others), train(next(iter(all_data))[0]))) == [0.0]

    def test_in_an_earlier_pass(self):
        loader = DataLoader(TensorDataset(torch.randn(100, 4)), batch_size=8)
        batches = [lambda: X, lambda: next(iter(loader))[0]]
        assert drawn(lambda: train(batches.pop()()), times=2) == [1.0, 0.0]

    def test_the_loader_is_left_as_it_was(self):
        kind = type(iter(DataLoader(TensorDataset(X))))
        before = kind.__next__
        loader = DataLoader(TensorDataset(torch.randn(100, 4)), batch_size=8)
        traced(lambda: train(next(iter(loader))[0]))
        assert kind.__next__ is before


def test_calls_of_a_step_are_counted():
    w = leaf(4, 3)
    optimizer = torch.optim.SGD([w], lr=0.1)

    def step():
        for _ in range(3):
            (X @ w).square().mean().backward()
        optimizer.step()

    trace = traced(step, times=2)
    (site,) = fed(trace)
    assert trace.scalars(site, "data_calls") == [(0, 3.0), (1, 3.0)]
