from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unstuck.lm import deep
from unstuck.lm.data import WordList
from unstuck.lm.deep import GAINS, DeepRun, build, deep_table, run_deep
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Corpus, build_corpus


@pytest.fixture(scope="module")
def runs(words: WordList) -> dict[tuple[str, bool], DeepRun]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = run_deep(words, steps=40)
    torch.set_num_threads(threads)
    return {(run.gain, run.norm): run for run in found}


@pytest.mark.parametrize("steps", [0, -1, 1_000_001])
def test_steps_that_cannot_be_are_refused(steps: int, words: WordList) -> None:
    with pytest.raises(LmError, match="--steps is"):
        run_deep(words, steps)


def test_all_six_are_run_in_order(words: WordList) -> None:
    told: list[str] = []
    assert [run.title for run in run_deep(words, 1, on_run=told.append)] == told
    assert told[0] == "gain 1"
    assert told[-1] == "gain 3, BatchNorm"


def test_the_lectures_list_is_split_as_in_the_lecture(lectures: WordList, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def watched(words: WordList, context: int, by: str) -> Corpus:
        chosen.append(by)
        return build_corpus(words, context, by)

    monkeypatch.setattr(deep, "build_corpus", watched)
    run_deep(lectures, 1)
    run_deep(replace(lectures, words=lectures.words[1:]), 1)
    assert chosen == ["lines", "words"]


@pytest.mark.parametrize("norm", [False, True])
def test_the_network_is_the_lectures(norm: bool) -> None:
    model = build(27, 5 / 3, norm, torch.Generator().manual_seed(0))
    linear = [part for part in model if isinstance(part, nn.Linear)]
    assert [tuple(part.weight.shape) for part in linear] == [(100, 30), *[(100, 100)] * 4, (27, 100)]
    for part in linear[:-1]:
        assert part.weight.std().item() * math.sqrt(part.in_features) == pytest.approx(5 / 3, rel=0.05)
        assert (part.bias is None) is norm
    output = 1.0 if norm else 0.1
    assert linear[-1].weight.std().item() * 10 == pytest.approx(output, rel=0.05)
    if norm:
        assert model[-1].weight.tolist() == pytest.approx([0.1] * 27)
    assert sum(isinstance(part, nn.Tanh) for part in model) == 5


def test_gain_one_lets_the_signal_fade(runs: dict[tuple[str, bool], DeepRun]) -> None:
    stds = [layer.activation_std for layer in runs["1", False].layers[:5]]
    assert stds == sorted(stds, reverse=True)
    assert stds[-1] < 0.6 * stds[0]
    assert runs["1", False].layers[4].saturated < 0.001


def test_gain_five_thirds_keeps_it_near_065(runs: dict[tuple[str, bool], DeepRun]) -> None:
    """E[tanh(5/3 x)²] of a normal x with that std settles at 0.65²; the lecture reads off 5 % saturated."""
    for layer in runs["5/3", False].layers[2:5]:
        assert layer.activation_std == pytest.approx(0.65, abs=0.04)
        assert 0.03 < layer.saturated < 0.09


def test_gain_three_saturates(runs: dict[tuple[str, bool], DeepRun]) -> None:
    assert all(layer.saturated > 0.35 for layer in runs["3", False].layers[:5])


def test_batchnorm_makes_every_gain_alike(runs: dict[tuple[str, bool], DeepRun]) -> None:
    one, other = runs["1", True], runs["3", True]
    for a, b in zip(one.layers[:5], other.layers[:5], strict=True):
        assert a.activation_std == pytest.approx(b.activation_std, rel=1e-3)
        assert a.gradient_std == pytest.approx(b.gradient_std, rel=1e-2)
        assert a.grad_to_data == pytest.approx(9 * b.grad_to_data, rel=1e-2)  # gradient ∝ 1/gain, weights ∝ gain


def test_numbers_are_those_of_a_plain_first_step(runs: dict[tuple[str, bool], DeepRun], words: WordList) -> None:
    from unstuck.lm.stages import batches

    corpus = build_corpus(words, 3)
    model = build(len(corpus.vocabulary), GAINS["5/3"], False, torch.Generator().manual_seed(0))
    batch = torch.from_numpy(batches(0, 0, len(corpus.train))[0]).long()
    upto = model[:6](corpus.train.contexts[batch])  # embedding, flatten, linear, tanh, linear, tanh
    loss = nn.functional.cross_entropy(model[6:](upto), corpus.train.targets[batch])
    (gradient,) = torch.autograd.grad(loss, upto, retain_graph=True)
    (weights,) = torch.autograd.grad(loss, model[4].weight)
    found = runs["5/3", False]
    layer = found.layers[1]
    assert layer.activation_std == pytest.approx(upto.std().item(), rel=1e-5)
    assert layer.saturated == pytest.approx((upto.abs() > 0.97).float().mean().item())
    assert layer.gradient_std == pytest.approx(gradient.std().item(), rel=1e-5)
    assert layer.grad_to_data == pytest.approx((weights.std() / model[4].weight.std()).item(), rel=1e-5)
    assert found.updates[0, 1] == pytest.approx(math.log10(0.1 * layer.grad_to_data), abs=1e-6)


def test_histograms_hold_everything(runs: dict[tuple[str, bool], DeepRun]) -> None:
    for run in runs.values():
        assert {name: len(held) for name, held in run.histograms.items()} == {
            "activations": 5,
            "gradients": 5,
            "weight gradients": 6,
        }
        for held in run.histograms.values():
            for histogram in held:
                assert (histogram.density * np.diff(histogram.edges)).sum() == pytest.approx(1)


def test_table_has_a_row_a_layer(runs: dict[tuple[str, bool], DeepRun]) -> None:
    header, rows = deep_table(list(runs.values()))
    assert len(rows) == 36
    assert {len(row) for row in rows} == {len(header)}
    assert rows[5][1:5] == ["output", "–", "–", "–"]
