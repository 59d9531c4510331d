"""Measures of grouped contexts against plain torch over every example."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unstuck.lm import ladder_measures
from unstuck.lm.examples import Corpus
from unstuck.lm.ladder_measures import WIDTH, Grouped, Measured, measure
from unstuck.lm.stages import STAGES, Network, start


def plain(network: Network, contexts: torch.Tensor, targets: torch.Tensor, training: bool) -> tuple[float, float, int]:
    held = {name: torch.from_numpy(array).double() for name, array in network.arrays()}
    pre = held["embedding"][contexts].flatten(1) @ held["hidden_weight"] + held["hidden_bias"]
    if network.norm:
        mean, std = (pre.mean(0), pre.std(0)) if training else (held["running_mean"], held["running_std"])
        pre = held["gain"] * (pre - mean) / std + held["shift"]
    flat = pre.tanh().abs() > 0.99
    loss = F.cross_entropy(pre.tanh() @ held["output_weight"] + held["output_bias"], targets)
    return loss.item(), flat.double().mean().item(), int(flat.all(0).sum())


@pytest.mark.parametrize("name", ["original", "batchnorm"])
def test_measures_are_those_of_every_example(name: str, corpus: Corpus) -> None:
    symbols = len(corpus.vocabulary)
    first, trained = start(STAGES[name], 0, symbols), start(STAGES[name], 1, symbols)
    if not first.norm:
        trained.hidden_bias[:3] = 300  # three dead units
    trained.running_mean[:], trained.running_std[:] = 0.3, 1.7
    batch = corpus.train.contexts[:32], corpus.train.targets[:32]
    found = measure(
        first,
        Grouped.batch(*(tensor.numpy().astype(np.int32) for tensor in batch)),
        trained,
        Grouped.of(corpus.train),
        Grouped.of(corpus.val),
    )
    at_start = plain(first, *batch, training=True)
    at_end = plain(trained, corpus.train.contexts, corpus.train.targets, training=False)
    val, _, _ = plain(trained, corpus.val.contexts, corpus.val.targets, training=False)
    wanted = (*at_start, at_end[0], val, *at_end[1:])
    assert found.values() == pytest.approx(wanted, rel=1e-9)
    assert found.dead >= (0 if first.norm else 3)


def test_grouping_keeps_every_example(corpus: Corpus) -> None:
    grouped = Grouped.of(corpus.train)
    assert len(grouped.contexts) == len({tuple(row) for row in corpus.train.contexts.tolist()})
    counted = Counter(zip(map(tuple, corpus.train.contexts.tolist()), corpus.train.targets.tolist(), strict=True))
    for d, context in enumerate(map(tuple, grouped.contexts.tolist())):
        for k in range(grouped.first[d], grouped.first[d + 1]):
            assert counted.pop((context, grouped.follower[k])) == grouped.count[k]
    assert not counted


def test_chunks_change_nothing(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    network, train, val = (
        start(STAGES["kaiming"], 0, len(corpus.vocabulary)),
        Grouped.of(corpus.train),
        Grouped.of(corpus.val),
    )
    whole = measure(network, val, network, train, val)
    monkeypatch.setattr(ladder_measures, "CHUNK", 7)
    assert measure(network, val, network, train, val).values() == pytest.approx(whole.values(), rel=1e-12)
    assert [len(part.contexts) for part in val.chunks()][:2] == [7, 7]
    assert sum(part.count.sum() for part in train.chunks()) == len(corpus.train)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_diverged_has_no_loss(value: float, corpus: Corpus) -> None:
    network, data = start(STAGES["kaiming"], 0, len(corpus.vocabulary)), Grouped.of(corpus.val)
    network.output_weight[:] = value
    assert np.isnan(measure(network, data, network, data, data).val)


def test_rows_go_there_and_back() -> None:
    values = np.arange(WIDTH, dtype=np.float64)
    assert Measured.row(values).values() == tuple(values)
