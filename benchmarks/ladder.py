"""What a model-step of `unstuck lm ladder` costs beside the lecture's loop, as a markdown table.

    python -m benchmarks.ladder [NAMES.txt] [--steps 300] [--repeats 5] [--seeds 8]

The lecture's loop (https://github.com/karpathy/nn-zero-to-hero, makemore part 3) trains one network of a stage with raw
tensors and autograd, on one thread, where it is quickest; its time is the mean of the five stages. The ladder trains
all five stages with all seeds, on every core. Short stretches of all of them take turns, and the least time of each
counts: other programs on the machine only ever add to it. The load average says how many there were.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from unstuck.lm import compiled, stacked
from unstuck.lm.data import SHIPPED, read_words
from unstuck.lm.examples import build_corpus
from unstuck.lm.ranks import cores
from unstuck.lm.stages import BATCH, CONTEXT, MOMENTUM, RATE, STAGES, STEPS, Stage, batches, split_by, start


def lecture_loop(stage: Stage, x: torch.Tensor, y: torch.Tensor, symbols: int, steps: int) -> None:
    """The loop as published."""
    held = {name: torch.from_numpy(array) for name, array in start(stage, 0, symbols).arrays()}
    names = ["embedding", "hidden_weight", "output_weight", "output_bias"]
    parameters = [held[name] for name in [*names, *(["gain", "shift"] if stage.norm else ["hidden_bias"])]]
    for p in parameters:
        p.requires_grad = True
    g = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = torch.randint(0, len(x), (BATCH,), generator=g)
        pre = held["embedding"][x[batch]].view(BATCH, -1) @ held["hidden_weight"]
        if stage.norm:
            mean, std = pre.mean(0, keepdim=True), pre.std(0, keepdim=True)
            pre = held["gain"] * (pre - mean) / std + held["shift"]
            with torch.no_grad():
                held["running_mean"] = (1 - MOMENTUM) * held["running_mean"] + MOMENTUM * mean
                held["running_std"] = (1 - MOMENTUM) * held["running_std"] + MOMENTUM * std
        else:
            pre = pre + held["hidden_bias"]
        loss = F.cross_entropy(torch.tanh(pre) @ held["output_weight"] + held["output_bias"], y[batch])
        for p in parameters:
            p.grad = None
        loss.backward()
        for p in parameters:
            p.data += -RATE * p.grad


def seconds(work: Callable[[], object], threads: int) -> tuple[float, float]:
    """Wall time and processor time (of all threads) of `work` with torch on so many threads."""
    torch.set_num_threads(threads)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=SHIPPED, help="word list (default: the shipped names)")
    parser.add_argument("--steps", type=int, default=300, help="of a stretch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    words = read_words(options.data)
    corpus = build_corpus(words, CONTEXT, split_by(words.words))
    x, y, symbols, steps = corpus.train.contexts, corpus.train.targets, len(corpus.vocabulary), options.steps
    data = x.numpy().astype(np.int32), y.numpy().astype(np.int32)
    keys = [(stage, seed) for stage in STAGES.values() for seed in range(options.seeds)]
    draws = [batches(seed, 0, len(y)) for _, seed in keys]
    rates = np.full(steps, RATE, np.float32)

    def ladder(engine: Callable[..., object], threads: int, steps: int = steps) -> Callable[[], object]:
        networks = [start(stage, seed, symbols) for stage, seed in keys]
        return lambda: engine(networks, *data, draws, rates[:steps], threads)

    many, models, fewer = cores(), len(keys), max(1, steps // 10)
    stages = {f"lecture, {stage.name}": stage for stage in STAGES.values()}
    work: dict[str, tuple[Callable[[], object], int, int]] = {  # what, its threads, its model-steps
        name: (lambda stage=stage: lecture_loop(stage, x, y, symbols, steps), 1, steps)
        for name, stage in stages.items()
    }
    for threads in dict.fromkeys((1, many)):
        name = f"{threads} threads"
        work[f"ladder, compiled, {name}"] = ladder(compiled.advance, threads), threads, models * steps
        work[f"ladder, torch, {name}"] = ladder(stacked.advance, threads, fewer), threads, models * fewer
    least = {name: (float("inf"), float("inf")) for name in work}
    for _ in range(options.repeats + 1):  # the first time round also compiles; its times are no minimum
        for name, (run, threads, _) in work.items():
            wall, processor = seconds(run, threads)
            least[name] = min(least[name][0], wall), min(least[name][1], processor)
    each = {name: tuple(1e6 * spent / work[name][2] for spent in least[name]) for name in work}
    lecture = sum(each[name][0] for name in stages) / len(stages)
    print(f"load average {os.getloadavg()[0]:.1f} on {many} cores, {models} networks, {steps} steps\n")
    print("| what | µs a model-step | of them processor | lecture's / its |")
    print("|---|---|---|---|")
    for name, (wall, processor) in each.items():
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {lecture / wall:.1f} |")
    total = models * STEPS / 6e7
    ladder_minutes = each[f"ladder, compiled, {many} threads"][0] * total
    print(f"\n{len(STAGES)} stages × {options.seeds} seeds × {STEPS:,} steps at these rates:")
    print(f"{lecture * total:.0f} min by the lecture's loop, {ladder_minutes:.1f} min by the ladder.")


if __name__ == "__main__":
    main()
