"""The numbers of a step, against what torch says of the same tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import unstuck
from integrations.made import X, Y, network, train
from unstuck.integrations.vitals import even_histogram, filled_bins, site_scalars, site_summaries, vitals
from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.trace import Kind, Role

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def trace():
    with unstuck.watch(every=1) as run:
        train(network(scale=20.0), 4)
    return run.session.trace


def test_nothing_is_known_of_a_step_that_was_not_sampled(trace):
    assert site_scalars(trace, 99) == site_summaries(trace, 99) == {}
    assert vitals(trace, 99) == {"unstuck/nonfinite": 0.0}


def test_vitals_are_what_torch_computes(trace):
    found = vitals(trace, 0)
    model, loss = network(scale=20.0), torch.nn.functional.cross_entropy
    loss(model(X), Y).backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert found["unstuck/gradient_norm"] == pytest.approx(float(gradients.norm()), rel=1e-5)
    (tanh,) = trace.of_kind(Kind.ACTIVATION)
    outside = (model[0](X).abs() > tanh.interval[1]).float().mean()
    assert found["unstuck/saturated"] == pytest.approx(float(outside), abs=2e-3)
    assert 0.5 < found["unstuck/saturated"] < 1
    ratios = [0.1 * float(layer.weight.grad.norm() / layer.weight.detach().norm()) for layer in (model[0], model[2])]
    assert found["unstuck/update_to_data"] == pytest.approx(sum(ratios) / 2, rel=1e-4)
    assert found["unstuck/nonfinite"] == 0


def test_scalars_bear_the_names_that_reports_use(trace):
    found = site_scalars(trace, 0)
    weight = next(site for site in trace.sites if site.label == "0.weight")
    assert found["unstuck/0.weight/value/std"] == trace.summary(weight, Role.VALUE).std
    assert found["unstuck/0.weight/update_to_data"] == trace.update_to_data(weight)[1][0]
    assert "unstuck/1 (tanh)/input/outside_fraction" in found
    assert "unstuck/0.weight/value/outside_fraction" not in found  # a parameter has no responsive interval


def test_the_ratio_of_a_step_is_that_of_the_series(trace):
    for site in trace.of_kind(Kind.PARAMETER):
        steps, ratios = trace.update_to_data(site)
        assert [trace.update_to_data_at(site, step) for step in steps] == list(ratios)
        assert trace.update_to_data_at(site, 99) is None


def test_a_histogram_of_nothing_is_refused():
    for of in (filled_bins, even_histogram):
        with pytest.raises(ValueError, match="needs finite values, and there are none"):
            of(TensorSummary.empty())


@given(VALUES)
def test_histograms_hold_every_value(values):
    summary = summarise(torch.tensor(values))
    counts, edges = filled_bins(summary)
    assert counts.sum() == len(values)
    assert len(edges) == len(counts) + 1
    assert np.all(np.diff(edges) > 0)
    assert edges[0] <= min(values)
    assert max(values) <= edges[-1]
    counts, edges = even_histogram(summary)
    assert counts.sum() == len(values)
    assert counts.min() >= 0
    assert len(edges) == len(counts) + 1
    assert np.allclose(np.diff(edges), np.diff(edges)[0])


@given(VALUES, st.integers(1, 30))
def test_an_even_histogram_is_right_to_the_width_of_a_bin(values, bins):
    """Below each edge lie as many values as in fact do below it, but for those within an eighth of an octave of it."""
    summary = summarise(torch.tensor(values))
    counts, edges = even_histogram(summary, bins)
    known = np.asarray(values, dtype=np.float32).astype(float)
    for edge, below in zip(edges[1:-1], np.cumsum(counts)[:-1], strict=True):
        around = abs(edge) / 8 + 2.0**-32
        assert (known < edge - around).sum() - 1 <= below <= (known < edge + around).sum() + 1
