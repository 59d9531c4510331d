"""The lecture's stages with many seeds, all trained side by side, and what they come to.

One run of a lecture is one draw: the last digits of its losses are its seed's. `Ladder` trains every stage with every
seed; `ladder_table.py` says what is left of each stage's gain when the seeds are allowed for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.lm.data import WordList
from unstuck.lm.errors import LmError, require_choice, require_whole
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.ladder_measures import WIDTH, Grouped, Measured, measure
from unstuck.lm.ranks import Ranks
from unstuck.lm.stages import BLOCK, CONTEXT, FloatArray, IntArray, Network, Stage, batches, rates, split_by, start

ENGINES = ("compiled", "torch")
MOST_SEEDS = 10_000

Key = tuple[str, int]
Engine = Callable[..., list[FloatArray]]


@dataclass(frozen=True)
class Plan:
    """Which stages, how many seeds (0, 1, …) and steps; raises LmError for values that cannot be."""

    stages: tuple[Stage, ...]
    seeds: int
    steps: int

    def __post_init__(self) -> None:
        """Check every value."""
        require_whole("--seeds", self.seeds, 1, MOST_SEEDS)
        require_whole("--steps", self.steps, 2, 2**31 - 1)

    @property
    def keys(self) -> list[Key]:
        """Each run's stage and seed, in the order of all tables."""
        return [(stage.name, seed) for stage in self.stages for seed in range(self.seeds)]


@dataclass
class Run:
    """One stage with one seed: `losses` are the means of the blocks of 1,000 steps done so far."""

    stage: Stage
    seed: int
    network: Network
    step: int = 0
    losses: list[float] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Stage and seed."""
        return self.stage.name, self.seed


@dataclass(frozen=True)
class Results:
    """Every run's numbers, its training loss by blocks, (B,) each, and how the words were split."""

    plan: Plan
    measured: dict[Key, Measured]
    curves: dict[Key, npt.NDArray[np.float64]]
    split: str = "words"


class Ladder:
    """This process's runs of a plan, on one list, split 80/10/10: the lecture's by line, others by distinct word."""

    def __init__(self, plan: Plan, words: WordList, ranks: Ranks | None = None) -> None:
        self.plan, self.ranks = plan, ranks or Ranks()
        self.split = split_by(words.words)
        self.corpus: Corpus = build_corpus(words, CONTEXT, self.split)
        self.symbols = len(self.corpus.vocabulary)
        examples = self.corpus.train
        self.contexts: IntArray = examples.contexts.numpy().astype(np.int32)
        self.targets: IntArray = examples.targets.numpy().astype(np.int32)
        stages = {stage.name: stage for stage in plan.stages}
        self.runs = [
            Run(stages[name], seed, start(stages[name], seed, self.symbols))
            for name, seed in self.ranks.share(plan.keys)
        ]

    @property
    def steps_left(self) -> int:
        """Model-steps that this process has still to do."""
        return sum(self.plan.steps - run.step for run in self.runs)

    def train(
        self,
        engine: Engine,
        threads: int = 1,
        at_once: int | None = None,
        on_block: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Do what is left, block by block; returns whether all is done.

        `at_once` runs (all, unless given) go through a block together, those that are behind first. `on_block` is told
        how many model-steps were done; `should_stop` is asked before each block.
        """
        while self.steps_left:
            if should_stop and should_stop():
                return False
            first = min(run.step for run in self.runs)
            behind = [run for run in self.runs if run.step == first][:at_once]
            self._advance(behind, first, min(first + BLOCK, self.plan.steps), engine, threads)
            if on_block:
                on_block((behind[0].step - first) * len(behind))
        return True

    def _advance(self, runs: Sequence[Run], first: int, stop: int, engine: Engine, threads: int) -> None:
        drawn = {seed: self._draws(seed, first // BLOCK) for seed in {run.seed for run in runs}}
        losses = engine(
            [run.network for run in runs],
            self.contexts,
            self.targets,
            [drawn[run.seed] for run in runs],
            rates(first, stop, self.plan.steps),
            threads,
        )
        for run, found in zip(runs, losses, strict=True):
            run.step = stop
            run.losses.append(float(found.mean(dtype=np.float64)))

    def _draws(self, seed: int, block: int) -> IntArray:
        return batches(seed, block, len(self.targets))

    def results(self) -> Results:
        """The numbers of all processes' runs; every process must call this, and all steps must be done."""
        keys, blocks = self.plan.keys, -(-self.plan.steps // BLOCK)
        rows = np.zeros((len(keys), WIDTH + blocks))
        train, val = (Grouped.of(part) for part in (self.corpus.train, self.corpus.val))
        for place, run in zip(self.ranks.share(range(len(keys))), self.runs, strict=True):
            if run.step != self.plan.steps:
                raise LmError(f"run {run.key} is at step {run.step} of {self.plan.steps}: train it to its end first")
            batch = self._draws(run.seed, 0)[0]
            first = Grouped.batch(self.contexts[batch], self.targets[batch])
            found = measure(start(run.stage, run.seed, self.symbols), first, run.network, train, val)
            rows[place] = [*found.values(), *run.losses]
        rows = self.ranks.gather(rows)
        return Results(
            self.plan,
            {key: Measured.row(row[:WIDTH]) for key, row in zip(keys, rows, strict=True)},
            {key: row[WIDTH:] for key, row in zip(keys, rows, strict=True)},
            self.split,
        )


def engine_of(name: str) -> Engine:
    """The engine of a name of `ENGINES`; numba is imported with the compiled one."""
    require_choice("--engine", name, ENGINES)
    if name == "torch":
        from unstuck.lm.stacked import advance

        return advance
    from unstuck.lm.compiled import advance as compiled

    return compiled
