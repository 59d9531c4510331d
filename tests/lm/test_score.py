from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from unstuck.lm import score as module
from unstuck.lm.errors import LmError
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus
from unstuck.lm.model import KINDS, ModelConfig, build_model
from unstuck.lm.score import surprises
from unstuck.lm.train import Run, train


def test_an_unknown_character_is_refused(corpus: Corpus, new_run: Callable[..., Run]) -> None:
    with pytest.raises(LmError, match=r"^the list: the word 'zoé' holds 'é' \(U\+00E9\), which the vocabulary of 26"):
        surprises(new_run().model, corpus.vocabulary, ["ava", "zoé"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [3, 12])
def test_the_surprise_is_minus_the_logarithm_of_the_probability(
    corpus: Corpus, kind: str, context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 5)
    model = build_model(ModelConfig.of(kind, 27, context=context), torch.Generator().manual_seed(0))
    model.output.weight.data.mul_(200)
    words = ["ava", "maximilian", "jo"]
    found = surprises(model, corpus.vocabulary, words)
    assert model.training
    model.eval()
    assert [one.word for one in found] == words
    for one in found:
        assert len(one.symbols) == len(one.word) + 1
        assert one.mean == pytest.approx(sum(one.symbols) / len(one.symbols))
        if kind == "mlp" or len(one.word) < context:
            ids = torch.cat([torch.zeros(1, context, dtype=torch.int64), _ids(corpus, one.word)], dim=1)
            for place, nats in enumerate(one.symbols):
                logits = model.next_logits(ids[:, place : place + context], min(place + 1, context))
                expected = -logits.log_softmax(1)[0, ids[0, context + place]]
                assert nats == pytest.approx(expected.item(), abs=1e-4)


def _ids(corpus: Corpus, word: str) -> torch.Tensor:
    return torch.from_numpy(corpus.vocabulary.encode([word]))[None]


def test_over_a_part_it_is_the_loss(corpus: Corpus, new_run: Callable[..., Run]) -> None:
    run = new_run()
    train(run, stop_at=20)
    symbols = [nats for one in surprises(run.model, corpus.vocabulary, corpus.split.val) for nats in one.symbols]
    assert sum(symbols) / len(symbols) == pytest.approx(evaluate(run.model, corpus.val), rel=1e-5)
