from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unstuck.lm.data import WordList
from unstuck.lm.errors import LmError
from unstuck.lm.examples import build_corpus
from unstuck.lm.ladder import Ladder, Plan, engine_of
from unstuck.lm.ranks import Ranks
from unstuck.lm.stages import stages_of

COMPILED = engine_of("compiled")
TWO = stages_of("kaiming,batchnorm")


@pytest.mark.parametrize(
    ("seeds", "steps", "text"), [(0, 10, "--seeds is 0"), (-1, 10, "--seeds is -1"), (2, 1, "--steps is 1")]
)
def test_plans_that_cannot_be_are_refused(seeds: int, steps: int, text: str) -> None:
    with pytest.raises(LmError, match=text):
        Plan(TWO, seeds, steps)


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(LmError, match="unknown --engine 'numba': choose one of compiled, torch"):
        engine_of("numba")


def test_results_before_the_end_are_refused(words: WordList) -> None:
    with pytest.raises(LmError, match="train it to its end first"):
        Ladder(Plan(TWO, 1, 10), words).results()


def test_only_the_lectures_list_is_split_by_line(lectures: WordList) -> None:
    """As the lecture does; its 60 lines are 50 names."""
    by_line, by_word = (build_corpus(lectures, 3, by) for by in ("lines", "words"))
    assert len(by_line.train) != len(by_word.train)
    ladder = Ladder(Plan(TWO, 1, 10), lectures)
    assert torch.equal(ladder.corpus.train.contexts, by_line.train.contexts)
    assert ladder.split == "lines"
    other = Ladder(Plan(TWO, 1, 10), replace(lectures, words=lectures.words[1:]))
    assert other.split == "words"


def test_results_say_how_the_words_were_split(lectures: WordList) -> None:
    assert finished(lectures, Plan(stages_of("4"), 1, 2), "torch").results().split == "lines"


def finished(words: WordList, plan: Plan, engine: str = "compiled", ranks: Ranks | None = None) -> Ladder:
    ladder = Ladder(plan, words, ranks)
    assert ladder.train(engine_of(engine))
    return ladder


def test_runs_of_a_seed_share_their_draws_and_batches(words: WordList) -> None:
    """Stages 1 and 2 differ in the output layer alone, so that their hidden layers begin alike."""
    ladder = Ladder(Plan(stages_of("1,2"), 2, 10), words)
    a, b = ladder.runs[0].network, ladder.runs[2].network
    assert [run.key for run in ladder.runs[::2]] == [("original", 0), ("small-output", 0)]
    np.testing.assert_array_equal(a.hidden_weight, b.hidden_weight)


def test_training_goes_down_from_where_uniform_guesses_are(words: WordList) -> None:
    found = finished(words, Plan(TWO, 2, 1500)).results()
    for key, run in found.measured.items():
        assert run.start_loss == pytest.approx(np.log(27), abs=0.1), key
        assert run.train < 2.5
        assert run.train < run.val
        curve = found.curves[key]
        assert len(curve) == 2
        assert curve[1] < curve[0]


@pytest.mark.parametrize(("stages", "steps"), [("2,3,4,5", 120), ("1", 10)])
def test_engines_agree(stages: str, steps: int, words: WordList) -> None:
    """To 1e-5 nats (of 20: 1e-4); stage 1, at rate 0.1 with logits of ±30, doubles any rounding every few steps."""
    plan = Plan(stages_of(stages), 2, steps)
    one, two = (finished(words, plan, engine).results().measured for engine in ("compiled", "torch"))
    for key, run in one.items():
        assert run.values() == pytest.approx(two[key].values(), rel=5e-6, abs=1e-5), key


def test_a_runs_numbers_do_not_depend_on_the_other_runs(words: WordList) -> None:
    few = finished(words, Plan(stages_of("batchnorm"), 1, 60)).results().measured
    many = finished(words, Plan(TWO, 3, 60)).results().measured
    assert few["batchnorm", 0] == many["batchnorm", 0]


def test_stopping_and_going_on_changes_no_bit(words: WordList) -> None:
    plan = Plan(TWO, 1, 2500)
    whole, parts = finished(words, plan), Ladder(plan, words)
    done: list[int] = []
    assert not parts.train(COMPILED, on_block=done.append, should_stop=lambda: len(done) == 1)
    assert [run.step for run in parts.runs] == [1000, 1000]
    assert parts.steps_left == 3000
    assert parts.train(COMPILED, on_block=done.append)
    assert done == [2000, 2000, 1000]
    assert parts.results().measured == whole.results().measured


def test_runs_that_are_behind_catch_up(words: WordList) -> None:
    ladder = Ladder(Plan(TWO, 1, 2000), words)
    ladder.runs[0].step, ladder.runs[0].losses = 1000, [3.0]
    done: list[int] = []
    ladder.train(COMPILED, on_block=done.append)
    assert done == [1000, 2000]
    assert [len(run.losses) for run in ladder.runs] == [2, 2]


def test_few_at_once_change_no_bit(words: WordList) -> None:
    plan = Plan(TWO, 2, 1200)
    few, done = Ladder(plan, words), []
    assert few.train(COMPILED, at_once=3, on_block=done.append)
    assert done == [3000, 1000, 600, 200]
    assert few.results().measured == finished(words, plan).results().measured


def test_ranks_share_the_runs_out(words: WordList) -> None:
    plan = Plan(TWO, 3, 10)
    shares = [[run.key for run in Ladder(plan, words, Ranks(rank, 4)).runs] for rank in range(4)]
    assert sorted(key for share in shares for key in share) == sorted(plan.keys)
    assert max(map(len, shares)) - min(map(len, shares)) == 1
