from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from unstuck.lm.data import Vocabulary
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Corpus
from unstuck.lm.model import CharMLP, ModelConfig, build_model
from unstuck.lm.sample import BLOCK, sample_words
from unstuck.lm.train import Run, train

AB = Vocabulary(("a", "b"))


def biased(*logits: float) -> CharMLP:
    """A model of "a" and "b" that gives every context the same logits (boundary, a, b)."""
    model = build_model(ModelConfig(3, norm="none", hidden=2), torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor(logits))
    return model


@pytest.fixture
def trained(new_run: Callable[..., Run]) -> CharMLP:
    run = new_run()
    train(run)
    return run.model


def test_a_seed_gives_the_same_words_however_many_are_asked_for(trained: CharMLP, corpus: Corpus) -> None:
    many = sample_words(trained, corpus.vocabulary, BLOCK + 50, seed=3)
    assert len(many) == BLOCK + 50
    for n in (1, 20, BLOCK, BLOCK + 1):
        assert sample_words(trained, corpus.vocabulary, n, seed=3) == many[:n]
    assert sample_words(trained, corpus.vocabulary, 20, seed=4) != many[:20]
    assert many[:50] != many[BLOCK:]


def test_sampling_leaves_the_model_and_the_global_generator_alone(trained: CharMLP, corpus: Corpus) -> None:
    state, before = torch.get_rng_state(), {name: t.clone() for name, t in trained.state_dict().items()}
    sample_words(trained, corpus.vocabulary, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert trained.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())


def test_words_are_neither_empty_nor_longer_than_asked() -> None:
    endless, eager = biased(-50, 0, 0), biased(50, 0, 0)
    assert {len(word) for word in sample_words(endless, AB, 10, longest=7)} == {7}
    assert {len(word) for word in sample_words(eager, AB, 10)} == {1}
    assert set("".join(sample_words(endless, AB, 10, longest=7))) == {"a", "b"}


def test_symbols_come_with_the_model_s_probabilities() -> None:
    words = sample_words(biased(0.0, 0.0, 1.0), AB, 20_000)
    end, a, b = torch.tensor([0.0, 0.0, 1.0]).softmax(0).tolist()
    first = Counter(word[0] for word in words)
    assert first["b"] / len(words) == pytest.approx(b / (a + b), abs=0.02)
    assert sum(len(word) == 1 for word in words) / len(words) == pytest.approx(end, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "number of words is 0: give a whole number from 1 to 1000000000"),
        ({"n": 1, "seed": -1}, "seed is -1: give a whole number from 0 to 9223372036854775807"),
        ({"n": 1, "longest": 0}, "max length is 0: give a whole number from 1 to 100000"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(LmError) as caught:
        sample_words(biased(0, 0, 0), AB, **options)
    assert str(caught.value) == message
