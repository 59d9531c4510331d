"""The `fast` recipe beside the lecture's loop: wall time and validation loss on one word list, as a markdown table.

    python benchmarks/lm.py NAMES.txt [--steps 200000] [--seeds 3] [--threads 1]

The loop is the lecture's BatchNorm stage (https://github.com/karpathy/nn-zero-to-hero, makemore part 3), with raw
tensors: batches of 32, SGD at 0.1 and at 0.01 from the half on, running statistics with momentum 0.001. Both see the
same split by line and the same validation examples. Reading the file and building the examples is in neither time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unstuck.lm.data import SHIPPED, read_words
from unstuck.lm.evaluate import evaluate
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.model import ModelConfig
from unstuck.lm.recipe import RECIPES
from unstuck.lm.train import Run, train


def lecture_loop(corpus: Corpus, steps: int, seed: int) -> tuple[float, float]:
    """Seconds and validation loss of the loop as published: every tensor by hand, no modules, no optimizer."""
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

    start = time.perf_counter()
    for step in range(steps):
        batch = torch.randint(0, len(x), (32,), generator=g)
        loss = F.cross_entropy(logits(x[batch]), y[batch])
        for p in parameters:
            p.grad = None
        loss.backward()
        rate = 0.1 if step < steps // 2 else 0.01
        for p in parameters:
            p.data += -rate * p.grad
    seconds = time.perf_counter() - start
    with torch.no_grad():
        val = F.cross_entropy(logits(corpus.val.contexts, mean_running, std_running), corpus.val.targets)
    return seconds, val.item()


def fast_recipe(corpus: Corpus, seed: int) -> tuple[float, float]:
    """Seconds and validation loss of the `fast` recipe, from nothing to trained."""
    start = time.perf_counter()
    run = Run(ModelConfig(len(corpus.vocabulary)), replace(RECIPES["fast"], split="lines", seed=seed), corpus)
    train(run)
    seconds = time.perf_counter() - start
    return seconds, evaluate(run.model, corpus.val)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=SHIPPED, help="word list (default: the shipped names)")
    parser.add_argument("--steps", type=int, default=200_000, help="steps of the lecture's loop")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the fast recipe")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = build_corpus(read_words(options.data), 3, "lines")
    slow, slow_loss = lecture_loop(corpus, options.steps, seed=2147483647)
    print("| what | steps | seconds | validation loss (nats) | lecture's time / its time |")
    print("|---|---|---|---|---|")
    print(f"| lecture's loop | {options.steps:,} | {slow:.1f} | {slow_loss:.4f} | 1 |")
    for seed in range(options.seeds):
        seconds, loss = fast_recipe(corpus, seed)
        steps = RECIPES["fast"].steps
        print(f"| fast, seed {seed} | {steps:,} | {seconds:.2f} | {loss:.4f} | {slow / seconds:.0f} |")


if __name__ == "__main__":
    main()
