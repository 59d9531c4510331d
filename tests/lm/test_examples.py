from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unstuck.lm.data import Vocabulary, WordList, read_words
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Batches, Corpus, Examples, build_corpus, examples_of

WORDS = st.lists(st.text("abc.é", min_size=1, max_size=7), min_size=1, max_size=12)


def naive_examples(words: list[str], vocabulary: Vocabulary, context: int) -> tuple[list[list[int]], list[int]]:
    """One symbol after another, as on the blackboard."""
    contexts, targets = [], []
    for word in words:
        window = [0] * context
        for one in [*(1 + vocabulary.characters.index(c) for c in word), 0]:
            contexts.append(window)
            targets.append(one)
            window = [*window[1:], one]
    return contexts, targets


@given(WORDS, st.integers(1, 9))
def test_examples_are_those_of_the_plain_loop(words: list[str], context: int) -> None:
    vocabulary = Vocabulary.of(words)
    contexts, targets = naive_examples(words, vocabulary, context)
    built = examples_of(words, vocabulary, context)
    assert built.contexts.tolist() == contexts
    assert built.targets.tolist() == targets
    assert built.contexts.dtype == built.targets.dtype == torch.int64


def test_no_words_give_no_examples() -> None:
    empty = examples_of([], Vocabulary.of("a"), 3)
    assert empty.contexts.shape == (0, 3)
    assert len(empty) == 0


@pytest.mark.parametrize(("by", "sizes"), [("words", [183_893, 22_930, 22_981]), ("lines", [183_802, 22_949, 23_053])])
def test_the_shipped_names_give_the_measured_numbers_of_examples(by: str, sizes: list[int]) -> None:
    corpus = build_corpus(read_words(), 3, by)
    assert [len(corpus.part(name)) for name in ("train", "val", "test")] == sizes
    assert sum(sizes) == sum(len(word) + 1 for word in corpus.words.words)


def test_a_given_vocabulary_must_know_the_words(words: WordList) -> None:
    with pytest.raises(LmError, match=r"^the shipped names line 1: the word 'emma' holds 'e' \(U\+0065\), which the"):
        build_corpus(words, 3, vocabulary=Vocabulary(("a", "m")))


@pytest.mark.parametrize("context", [0, -1, 257])
def test_a_context_out_of_range_is_refused(context: int) -> None:
    with pytest.raises(LmError, match=rf"^context is {context}: give a whole number from 1 to 256$"):
        examples_of(["ava"], Vocabulary.of("av"), context)


def test_unknown_parts_and_targets_are_refused(corpus: Corpus) -> None:
    with pytest.raises(LmError, match=r"^unknown part 'dev': choose one of train, val, test$"):
        corpus.part("dev")
    with pytest.raises(LmError, match=r"^unknown targets 'soft': choose one of drawn, counted$"):
        Batches(corpus.train, 4, "soft", 27, torch.Generator())


def everything(examples: Examples, targets: str, symbols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every example once, as a batch of `targets`."""
    batches = Batches(examples, 1, targets, symbols, torch.Generator())
    drawn = torch.arange(len(examples))
    return examples.contexts, examples.targets if batches.counts is None else batches.counts.rows(drawn)


@given(WORDS, st.integers(1, 4))
def test_counted_targets_are_relative_frequencies(words: list[str], context: int) -> None:
    vocabulary = Vocabulary.of(words)
    examples = examples_of(words, vocabulary, context)
    follow: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for window, target in zip(examples.contexts.tolist(), examples.targets.tolist(), strict=True):
        follow[tuple(window)][target] += 1
    _, rows = everything(examples, "counted", len(vocabulary))
    for window, row in zip(examples.contexts.tolist(), rows.tolist(), strict=True):
        counts = follow[tuple(window)]
        assert row == pytest.approx([counts[one] / counts.total() for one in range(len(vocabulary))])


def test_counted_targets_have_the_drawn_ones_loss_and_gradient_over_all_examples(corpus: Corpus) -> None:
    losses, gradients = [], []
    for targets in ("drawn", "counted"):
        contexts, wanted = everything(corpus.train, targets, 27)
        table = torch.linspace(-1, 1, 27 * 27, dtype=torch.float64).view(27, 27).requires_grad_()
        loss = F.cross_entropy(table[contexts[:, -1]], wanted if targets == "drawn" else wanted.double())
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, table)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("targets", ["drawn", "counted"])
def test_batches_depend_on_the_generator_alone(corpus: Corpus, targets: str) -> None:
    generator = torch.Generator().manual_seed(5)
    batches = Batches(corpus.train, 8, targets, 27, generator)
    batches.draw()
    state = generator.get_state()
    first = batches.draw()
    again = Batches(corpus.train, 8, targets, 27, torch.Generator().set_state(state)).draw()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], batches.draw()[0])
