from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from unstuck.lm import evaluate as module
from unstuck.lm.errors import LmError
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus, examples_of
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
