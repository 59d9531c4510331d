from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unstuck.lm.checkpoint import load_checkpoint, save_checkpoint
from unstuck.lm.corpus import corpus_of, open_corpus, open_words
from unstuck.lm.data import SHIPPED, WordList, read_words
from unstuck.lm.errors import LmError
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.model import ModelConfig
from unstuck.lm.recipe import OPTIMIZERS, RECIPES, learning_rate
from unstuck.lm.train import Run, loss_fn, train

NewRun = Callable[..., Run]


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "options",
    [
        *({"optimizer": name} for name in OPTIMIZERS),
        {"recipe": "lecture"},
        {"targets": "drawn", "schedule": "constant"},
        {"norm": "layer", "depth": 2},
        {"norm": "none", "lr": 0.01, "weight_decay": 0.0},
        {"depth": 3, "residual": True},
    ],
    ids=str,
)
def test_a_stopped_and_resumed_run_is_the_straight_one_bit_for_bit(
    new_run: NewRun, corpus: Corpus, tmp_path: Path, options: dict[str, Any]
) -> None:
    straight = new_run(**options)
    losses = train(straight)
    first = new_run(**options)
    begun = train(first, stop_at=50)
    save_checkpoint(tmp_path, first.checkpoint())
    train(first, stop_at=60)  # must not reach what was saved
    torch.manual_seed(99)  # nor must torch's global generator
    second = Run.resume(load_checkpoint(tmp_path), corpus)
    assert second.step == 50
    assert begun + train(second) == losses
    assert len(losses) == 100
    assert same_tensors(straight.checkpoint().tensors, second.checkpoint().tensors)


@pytest.fixture
def word_run(words: WordList) -> Callable[..., Run]:
    """A small run on whole words; with `on_disk` on a token file."""

    def make(kind: str, source: Path | None = None) -> Run:
        small = {"context": 8, "embedding": 8, "hidden": 12, "depth": 2, "dropout": 0.3}
        config = ModelConfig.of(kind, 27, **({"context": 4} if kind == "mlp" else small))
        recipe = replace(RECIPES["words"], steps=40, batch_size=16, split="hash" if source else "words")
        corpus = open_corpus(source, config, recipe) if source else corpus_of(words, config, recipe)
        return Run(replace(config, symbols=len(corpus.vocabulary)), recipe, corpus)

    return make


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "gru", "transformer"])
def test_runs_of_every_kind_of_model_and_data_resume_bit_for_bit(
    word_run: Callable[..., Run],
    words: WordList,
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    on_disk: bool,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = write(*words.words) if on_disk else None
    straight, first = word_run(kind, source), word_run(kind, source)
    losses, begun = train(straight), train(first, stop_at=17)
    save_checkpoint(tmp_path / "saved", first.checkpoint())
    if on_disk:
        shutil.rmtree(tmp_path / "cache")  # the token files are made again
    torch.manual_seed(99)
    before = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path / "saved")
    again = open_words(source, loaded.recipe) if source else words
    second = Run.resume(loaded, corpus_of(again, loaded.config, loaded.recipe, loaded.vocabulary))
    assert begun + train(second) == losses
    assert torch.equal(torch.get_rng_state(), before)
    assert same_tensors(straight.checkpoint().tensors, second.checkpoint().tensors)
    assert losses[-1] < losses[0] - 0.2


def test_dropout_differs_between_steps_and_seeds_and_is_off_in_evaluation(word_run: Callable[..., Run]) -> None:
    run = word_run("gru")
    batch = run.batches.draw()
    run.recipe = replace(run.recipe, lr=1e-30, weight_decay=0.0)
    with torch.no_grad():
        run.model.output.weight.mul_(100)
    losses = {run.advance(batch) for _ in range(5)}
    assert len(losses) == 5
    run.model.eval()
    assert run.model(batch[0]).equal(run.model(batch[0]))


def test_the_loss_leaves_out_what_does_not_count() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, 4, -1], [2, -1, -1]])
    rows = -logits.log_softmax(2)
    expected = (rows[0, 0, 1] + rows[0, 1, 4] + rows[1, 0, 2]) / 3
    torch.testing.assert_close(loss_fn(logits, targets), expected)


def test_a_run_saved_before_its_first_step_resumes(new_run: NewRun, corpus: Corpus, tmp_path: Path) -> None:
    run = new_run(steps=5)
    save_checkpoint(tmp_path, run.checkpoint())
    assert train(Run.resume(load_checkpoint(tmp_path), corpus)) == train(run)


def test_other_data_cannot_be_resumed_on(new_run: NewRun, corpus: Corpus) -> None:
    checkpoint = replace(new_run().checkpoint(), sha256="0" * 64)
    with pytest.raises(LmError) as caught:
        Run.resume(checkpoint, corpus)
    assert str(caught.value) == (
        "the shipped names is not the data that the run was started on (its SHA-256 differs): "
        "give that data with --data, or start a new run"
    )


@pytest.mark.parametrize(("option", "value"), [("seed", 1), ("lr", 0.02), ("batch_size", 16), ("weight_decay", 0.3)])
def test_the_recipe_s_numbers_change_the_run(new_run: NewRun, option: str, value: float) -> None:
    runs = new_run(steps=20), new_run(steps=20, **{option: value}), new_run(steps=20)
    for run in runs:
        train(run)
    plain, changed, again = (run.model.output.weight for run in runs)
    assert torch.equal(plain, again)
    assert not torch.equal(plain, changed)


def test_each_step_is_done_at_the_schedule_s_rate(new_run: NewRun) -> None:
    run, used = new_run(steps=20), []
    train(run, on_step=lambda step, loss: used.append(run.optimizer.param_groups[0]["lr"]))
    assert used == [learning_rate(run.recipe, step) for step in range(20)]
    assert len(set(used)) == 20


def test_the_norm_momentum_changes_the_running_statistics_only(new_run: NewRun) -> None:
    runs = new_run(steps=20), new_run(steps=20, norm_momentum=0.5)
    for run in runs:
        train(run)
    plain, changed = (run.model.state_dict() for run in runs)
    assert {name for name in plain if not torch.equal(plain[name], changed[name])} == {
        "hidden.0.norm.running_mean",
        "hidden.0.norm.running_var",
    }


def test_the_first_batch_is_shown_once_before_step_0(new_run: NewRun, corpus: Corpus) -> None:
    plain, run, seen = new_run(steps=10), new_run(steps=10), []

    def look(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor], loss: Any) -> None:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        seen.append((run.step, loss is loss_fn, loss(model(batch[0]), batch[1]).item()))
        model.load_state_dict(before)

    losses = train(run, stop_at=5, on_first_batch=look)
    train(run, on_first_batch=look)
    assert seen == [(0, True, losses[0])]
    assert train(plain)[:5] == losses


def test_steps_are_reported_as_they_are_done_and_can_be_stopped(new_run: NewRun) -> None:
    run, seen = new_run(), []
    losses = train(run, on_step=lambda step, loss: seen.append((step, loss)), should_stop=lambda: run.step == 7)
    assert seen == list(enumerate(losses, start=1))
    assert run.step == len(losses) == 7


def test_training_draws_nothing_from_the_global_generator(new_run: NewRun) -> None:
    before = torch.get_rng_state()
    train(new_run(steps=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_not_finite_stops_the_run_before_the_update(new_run: NewRun) -> None:
    run = new_run("lecture", norm="none", activation="relu", lr=1e30)
    with pytest.raises(
        LmError, match=r"^the loss is (nan|inf) at step \d+: lower --lr \(now 1e\+30\) or choose another"
    ):
        train(run)
    assert run.step < 10
    poisoned = new_run()
    poisoned.model.output.bias.data[0] = math.nan
    state = poisoned.model.hidden[0].linear.weight.clone()  # type: ignore[union-attr, operator]
    with pytest.raises(LmError, match="the loss is nan at step 0"):
        train(poisoned)
    assert torch.equal(poisoned.model.layers[0].linear.weight, state)


def test_batch_norm_refuses_batches_of_one(new_run: NewRun) -> None:
    with pytest.raises(
        LmError, match=r"^batch size is 1, and BatchNorm needs at least 2 examples: raise it, or change"
    ):
        new_run(batch_size=1)
    assert len(train(new_run(batch_size=1, norm="layer", steps=3))) == 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_recipes_learn(new_run: NewRun, corpus: Corpus, recipe: str) -> None:
    run = new_run(recipe, steps=300, hidden=50, norm_momentum=0.1)
    train(run)
    assert evaluate(run.model, corpus.train) < 2.6 < math.log(27)


@pytest.mark.slow
def test_the_fast_recipe_reaches_its_loss_on_the_shipped_names() -> None:
    corpus = build_corpus(read_words(), 3)
    run = Run(ModelConfig(27), RECIPES["fast"], corpus)
    train(run)
    assert evaluate(run.model, corpus.val) < 2.13


@pytest.mark.slow
def test_the_gru_reaches_its_loss_on_the_shipped_names() -> None:
    config, recipe = ModelConfig.of("gru", 27), replace(RECIPES["words"], steps=600)
    corpus = open_corpus(SHIPPED, config, recipe)
    run = Run(config, recipe, corpus)
    train(run)
    assert evaluate(run.model, corpus.val) < 2.12
