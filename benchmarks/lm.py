"""The language model beside the lecture's loop: losses, time and sampling speed on one word list, as tables.

    python -m benchmarks.lm [NAMES.txt] [--only recipes|models|sampling] [--steps 200000] [--seeds 3] [--minutes 3]

- `recipes`: the lecture's BatchNorm stage (https://github.com/karpathy/nn-zero-to-hero, makemore part 3), with raw
  tensors, in batches of 32, SGD at 0.1 and at 0.01 from the half on, running statistics with momentum 0.001; and the
  `fast` recipe. Both see the same split by line and run on one thread. `fast` was chosen by the validation loss, so the
  test loss stands beside it; the lecture's time is scaled to its 200,000 steps.
  Reading the file and building the examples is in neither time.
- `models`: the best settings known of each kind of model, as many steps as fit into `--minutes` of processor time on
  one thread, so half of what two cores give in that time (the speed is measured first: the schedule needs the number
  of steps).
- `sampling`: words a second of the folded `fast` network, without and with `--unique`.

CPU seconds are the process's own: on a machine that does nothing else they are the seconds times the threads at work,
and on a busy one they say how long it would have taken.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unstuck.lm.corpus import corpus_of
from unstuck.lm.data import SHIPPED, WordList, read_words
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.known import KnownWords
from unstuck.lm.model import ModelConfig
from unstuck.lm.norms import recalibrate
from unstuck.lm.recipe import RECIPES, Recipe
from unstuck.lm.sample import sample_words
from unstuck.lm.train import Run, train

MODELS: dict[str, tuple[dict[str, Any], Recipe]] = {
    "mlp": (
        {"context": 6, "embedding": 24, "hidden": 256},
        replace(RECIPES["fast"], lr=0.01, batch_size=256, weight_decay=0.1),
    ),
    "gru": ({"dropout": 0.3}, RECIPES["words"]),
    "transformer": ({}, replace(RECIPES["words"], lr=0.003, batch_size=32)),
}
TRIAL = 20  # steps whose speed says how many fit, after as many to warm up
SHARE = 0.93  # of the time, so that a machine that gets slower keeps within it
DRAWN = 200_000  # words


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, and of the process on all its cores."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        """Two cells of a table."""
        return f"{self.wall:.2f} | {self.cpu:.2f}"


class Clock:
    """Both clocks, from when it is made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        """The time since."""
        return Spent(time.perf_counter() - self.wall, time.process_time() - self.cpu)


def lecture_loop(corpus: Corpus, steps: int, seed: int) -> tuple[Spent, float, float]:
    """Time, validation and test loss of the loop as published: every tensor by hand, no modules, no optimizer."""
    x, y = corpus.train.contexts, corpus.train.targets
    symbols = len(corpus.vocabulary)
    g = torch.Generator().manual_seed(seed)
    embed = torch.randn((symbols, 10), generator=g)
    w1 = torch.randn((30, 200), generator=g) * (5 / 3) / 30**0.5
    w2 = torch.randn((200, symbols), generator=g) * 0.01
    b2 = torch.zeros(symbols)
    gain, shift = torch.ones((1, 200)), torch.zeros((1, 200))
    mean_running, std_running = torch.zeros((1, 200)), torch.ones((1, 200))
    parameters = [embed, w1, w2, b2, gain, shift]
    for p in parameters:
        p.requires_grad = True

    def logits(contexts: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
        nonlocal mean_running, std_running
        pre = embed[contexts].view(len(contexts), -1) @ w1
        if mean is None or std is None:
            mean, std = pre.mean(0, keepdim=True), pre.std(0, keepdim=True)
            with torch.no_grad():
                mean_running = 0.999 * mean_running + 0.001 * mean
                std_running = 0.999 * std_running + 0.001 * std
        return torch.tanh(gain * (pre - mean) / std + shift) @ w2 + b2

    clock = Clock()
    for step in range(steps):
        batch = torch.randint(0, len(x), (32,), generator=g)
        loss = F.cross_entropy(logits(x[batch]), y[batch])
        for p in parameters:
            p.grad = None
        loss.backward()
        rate = 0.1 if step < steps // 2 else 0.01
        for p in parameters:
            p.data += -rate * p.grad
    spent = clock.read()
    with torch.no_grad():
        val, test = (
            F.cross_entropy(logits(part.contexts, mean_running, std_running), part.targets).item()
            for part in (corpus.val, corpus.test)
        )
    return spent, val, test


def fast_recipe(corpus: Corpus, seed: int) -> tuple[Spent, Run]:
    """Time of the `fast` recipe, from nothing to trained."""
    clock = Clock()
    run = Run(ModelConfig(len(corpus.vocabulary)), replace(RECIPES["fast"], split="lines", seed=seed), corpus)
    train(run)
    return clock.read(), run


def recipes(words: WordList, options: argparse.Namespace) -> None:
    """The lecture's loop and the fast recipe, one thread each."""
    corpus = build_corpus(words, 3, "lines")
    print("| what | steps | seconds | CPU seconds | validation (nats) | test (nats) | lecture's CPU time / its |")
    print("|---|---|---|---|---|---|---|")
    slow, val, test = lecture_loop(corpus, options.steps, seed=2147483647)
    print(f"| lecture's loop | {options.steps:,} | {slow} | {val:.4f} | {test:.4f} | |", flush=True)
    for seed in range(options.seeds):
        spent, run = fast_recipe(corpus, seed)
        val, test = evaluate(run.model, corpus.val), evaluate(run.model, corpus.test)
        ratio = slow.cpu * RECIPES["lecture"].steps / options.steps / spent.cpu
        print(f"| fast, seed {seed} | {run.step:,} | {spent} | {val:.4f} | {test:.4f} | {ratio:.0f} |", flush=True)


def models(words: WordList, options: argparse.Namespace) -> None:
    """Each kind of model at its best settings known, in the same processor time."""
    print("| model | parameters | steps | seconds | CPU seconds | train (nats) | validation (nats) | test (nats) |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in options.models.split(","):
        shape, recipe = MODELS[kind]
        recipe = replace(recipe, split="lines")
        corpus = corpus_of(words, ModelConfig.of(kind, 2, **shape), recipe)
        config = ModelConfig.of(kind, len(corpus.vocabulary), **shape)
        clock = Clock()
        trial = Run(config, replace(recipe, steps=2 * TRIAL), corpus)
        train(trial, stop_at=TRIAL)
        second_half = Clock()
        train(trial)
        a_step = second_half.read().cpu / TRIAL
        left = SHARE * 60 * options.minutes - clock.read().cpu
        run = Run(config, replace(recipe, steps=max(int(left / a_step), 1)), corpus)
        train(run)
        if config.norm == "batch":
            recalibrate(run.model, corpus.train.contexts)
        spent = clock.read()
        losses = " | ".join(f"{evaluate(run.model, corpus.part(part)):.4f}" for part in ("train", "val", "test"))
        parameters = sum(p.numel() for p in run.model.parameters())
        print(f"| {kind} | {parameters:,} | {run.step:,} | {spent} | {losses} |", flush=True)


def sampling(words: WordList, _: argparse.Namespace) -> None:
    """Words a second, with all that drawing them takes."""
    corpus = build_corpus(words, 3)
    _, run = fast_recipe(corpus, 0)
    print("| words | blocks at once | drawn | seconds | CPU seconds | words a second | words a CPU second |")
    print("|---|---|---|---|---|---|---|")
    for title, workers in (("all", 1), ("all", 2), ("new and distinct", 2)):
        clock = Clock()
        unlike = KnownWords(corpus.train.tokens, len(corpus.vocabulary)) if title != "all" else None
        count = sum(1 for _ in sample_words(run.model, corpus.vocabulary, DRAWN, workers=workers, unlike=unlike))
        spent = clock.read()
        rates = f"{count / spent.wall:,.0f} | {count / spent.cpu:,.0f}"
        print(f"| {title} | {workers} | {count:,} | {spent} | {rates} |", flush=True)


TABLES: dict[str, Callable[[WordList, argparse.Namespace], None]] = {
    "recipes": recipes,
    "models": models,
    "sampling": sampling,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=SHIPPED, help="word list (default: the shipped names)")
    parser.add_argument("--only", choices=TABLES, help="one table (default: all)")
    parser.add_argument("--steps", type=int, default=200_000, help="steps of the lecture's loop")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the fast recipe")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of each kind of model")
    parser.add_argument("--models", default=",".join(MODELS), help="which kinds, with commas between")
    options = parser.parse_args()
    torch.set_num_threads(1)
    words = read_words(options.data)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{words.name}: {words.count:,} words; load average of the machine at the start: {load}")
    for name in [options.only] if options.only else TABLES:
        print()
        TABLES[name](words, options)


if __name__ == "__main__":
    main()
