from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from unstuck.lm import evaluate as module
from unstuck.lm.errors import LmError
from unstuck.lm.evaluate import evaluate, evaluate_by_batch, evaluate_rows, spread_rows
from unstuck.lm.examples import Corpus, examples_of
from unstuck.lm.model import ModelConfig, build_model
from unstuck.lm.streams import Sequences
from unstuck.lm.train import Run


def test_the_loss_is_the_mean_over_all_examples_with_running_statistics(
    new_run: Callable[..., Run], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    run.advance(run.batches.draw())
    state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    monkeypatch.setattr(module, "CHUNK", 13)
    loss = evaluate(run.model, corpus.val)
    assert run.model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in run.model.state_dict().items())
    run.model.eval()
    whole = F.cross_entropy(run.model(corpus.val.contexts), corpus.val.targets).item()
    assert loss == pytest.approx(whole, rel=1e-6)


def test_no_examples_are_refused(new_run: Callable[..., Run], corpus: Corpus) -> None:
    with pytest.raises(LmError, match=r"^there are no examples to evaluate on: choose another part, or give more"):
        evaluate(new_run().model, examples_of([], corpus.vocabulary, 3))


def test_symbols_that_do_not_count_are_left_out_of_a_word_model_s_loss(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Sequences(corpus.val.tokens, 4)
    model = build_model(ModelConfig.of("gru", 27, context=4), torch.Generator().manual_seed(0))
    model.output.weight.data.mul_(100)
    whole = evaluate(model, part)
    total = 0.0
    for row in range(part.rows):
        symbols, targets = part.batch(torch.tensor([row]))
        wanted = targets[0] >= 0
        total += F.cross_entropy(model.eval()(symbols)[0, wanted], targets[0, wanted], reduction="sum").item()
    assert whole == pytest.approx(total / len(corpus.val), rel=1e-5)
    monkeypatch.setattr(module, "CHUNK", 20)
    assert evaluate(model, part) == pytest.approx(whole, rel=1e-5)


def test_some_rows_are_spread_over_the_part(corpus: Corpus, new_run: Callable[..., Run]) -> None:
    assert spread_rows(corpus.val, 10**9).tolist() == list(range(len(corpus.val)))
    rows = spread_rows(corpus.val, 7)
    assert rows.tolist() == [k * len(corpus.val) // 7 for k in range(7)]
    model = new_run().model.eval()
    loss, count = evaluate_rows(model, corpus.val, rows)
    assert count == 7
    contexts, targets = corpus.val.batch(rows)
    assert loss == pytest.approx(F.cross_entropy(model(contexts), targets).item(), rel=1e-6)


def test_by_batch_it_is_the_loss_of_training_over_shuffled_batches(new_run: Callable[..., Run], corpus: Corpus) -> None:
    run = new_run(depth=2)
    run.advance(run.batches.draw())
    run.model.output.weight.data.mul_(100)
    state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    size = 50
    assert len(corpus.val) % size not in (0, 1)
    loss = evaluate_by_batch(run.model, corpus.val, size)
    assert run.model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in run.model.state_dict().items())
    order = torch.randperm(len(corpus.val), generator=torch.Generator().manual_seed(0))
    last = len(order) // size - 1
    total = 0.0
    for k in range(last + 1):
        batch = order[k * size : None if k == last else (k + 1) * size]
        contexts, targets = corpus.val.batch(batch)
        total += F.cross_entropy(run.model(contexts), targets, reduction="sum").item()
    assert loss == pytest.approx(total / len(order), rel=1e-6)
    assert loss != pytest.approx(evaluate(run.model, corpus.val), abs=1e-3)


def test_by_batch_needs_batch_norm_and_two_examples(new_run: Callable[..., Run], corpus: Corpus) -> None:
    with pytest.raises(LmError, match=r"^--bn-eval batch needs a model with BatchNorm, and this one has norm layer"):
        evaluate_by_batch(new_run(norm="layer").model, corpus.val, 32)
    with pytest.raises(LmError, match=r"^batch statistics need at least 2 examples: give more words"):
        evaluate_by_batch(new_run().model, examples_of([], corpus.vocabulary, 3), 32)
