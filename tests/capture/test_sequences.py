"""Whether targets repeat or follow the symbols given to an embedding, against a count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.trace import Kind

from .watching import traced

TEXT = torch.randint(0, 7, (6, 11), generator=torch.Generator().manual_seed(5))
TABLE, HEAD = nn.Embedding(7, 8), nn.Linear(8, 7)
NAMES = ("target_is_input", "target_is_next_input", "targets_counted", "sequence_length")


def shares(step, times=1):
    """Return what a training step leaves at its loss."""
    trace = traced(step, times)
    (loss,) = trace.of_kind(Kind.LOSS)
    return [trace.scalar(loss, name) for name in NAMES]


def train(symbols, targets, logits=lambda out: out, **kwargs):
    def step():
        out = logits(HEAD(TABLE(symbols)))
        F.cross_entropy(out.reshape(-1, 7), targets.reshape(-1), **kwargs).backward()

    return step


def by_hand(symbols, targets):
    """Count, where a symbol differs from the next, how many targets are it, and how many the next."""
    same = following = places = 0
    for row, wanted in zip(symbols.tolist(), targets.tolist(), strict=True):
        for here, after, target in zip(row[:-1], row[1:], wanted, strict=False):
            if here != after and target >= 0:
                places += 1
                same += target == here
                following += target == after
    return same / places, following / places


class TestNothing:
    def test_without_an_embedding(self):
        x, y = torch.randn(4, 8), torch.arange(4)
        assert shares(lambda: F.cross_entropy(HEAD(x), y).backward()) == [None] * 4

    def test_one_target_a_sequence(self):
        y = TEXT[:, 0]
        assert shares(lambda: F.cross_entropy(HEAD(TABLE(TEXT)).mean(1), y).backward()) == [None] * 4

    def test_one_symbol_again_and_again(self):
        same = torch.ones_like(TEXT)
        assert shares(train(same, same)) == [None] * 4

    def test_probabilities_as_targets(self):
        y = F.one_hot(TEXT, 7).float().reshape(-1, 7)
        assert shares(lambda: F.cross_entropy(HEAD(TABLE(TEXT)).reshape(-1, 7), y).backward()) == [None] * 4

    def test_targets_one_fewer_of_an_output_cut_at_the_start(self):
        assert shares(train(TEXT, TEXT[:, 1:], lambda out: out[:, 1:])) == [None] * 4


def test_the_next_symbols():
    x, y = TEXT[:, :-1], TEXT[:, 1:]
    assert shares(train(x, y)) == pytest.approx([*by_hand(x, y), 1.0, 10.0])
    assert by_hand(x, y)[1] == 1.0


def test_an_output_cut_at_the_end():
    same, following, counted, length = shares(train(TEXT, TEXT[:, 1:], lambda out: out[:, :-1]))
    assert (following, counted, length) == (1.0, 1.0, 11.0)
    assert same == 0.0


def test_the_same_symbols():
    assert shares(train(TEXT, TEXT)) == [1.0, 0.0, 1.0, 11.0]


def test_some_of_the_next_symbols():
    y = torch.where(torch.arange(11) % 4 == 0, 8 - TEXT, TEXT.roll(-1, 1)) % 7
    assert shares(train(TEXT, y)) == pytest.approx([*by_hand(TEXT, y), 1.0, 11.0])
    assert 0.6 < by_hand(TEXT, y)[1] < 0.9


def test_time_first():
    x, y = TEXT[:, :-1].t(), TEXT[:, 1:].t()
    same, following, _, length = shares(train(x, y))
    assert (following, length) == (1.0, 10.0)
    assert same == pytest.approx(by_hand(TEXT[:, :-1], TEXT[:, 1:])[0])


def test_ignored_targets_do_not_count():
    y = TEXT[:, 1:].clone()
    y[:, 2:5] = -100
    wrong = torch.where(y == -100, 3, y)
    assert shares(train(TEXT[:, :-1], y))[1] == 1.0
    assert shares(train(TEXT[:, :-1], y))[2] == pytest.approx(6 / 9)  # the last place has no next symbol
    assert shares(train(TEXT[:, :-1], wrong))[1] < 0.8


def test_the_embedding_that_agrees_best():
    other = nn.Embedding(7, 8)

    def step():
        out = HEAD(other(TEXT.flip(0)[:, :-1]) + TABLE(TEXT[:, :-1]))
        F.cross_entropy(out.reshape(-1, 7), TEXT[:, 1:].reshape(-1)).backward()

    trace = traced(step)
    (loss,), embeddings = trace.of_kind(Kind.LOSS), trace.of_kind(Kind.EMBEDDING)
    assert trace.scalar(loss, "target_is_next_input") == 1.0
    assert trace.scalar(loss, "next_embedding") == embeddings[1].index


def test_rows_of_a_raw_table():
    table = torch.randn(7, 7).requires_grad_()
    x, y = TEXT[:, :-1], TEXT[:, 1:]
    assert shares(lambda: F.cross_entropy(table[x].reshape(-1, 7), y.reshape(-1)).backward())[1] == 1.0
