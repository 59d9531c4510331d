"""What merging the ranks of torch.distributed costs: bytes and time by sites, by processes, and reckoned for many.

    python -m benchmarks.ranks [--steps 60]

1. A rank's part, by the number of sites: its bytes, and what rank 0 takes to merge eight of them (CPU time).
2. A training of 1, 2 and 4 processes on this machine (gloo, one thread each, every step sampled): the median time of a
   merge, waiting for the others included, and the bytes of rank 0.
3. What follows for up to 4,096 ranks from the first table, a network of 1 GB/s and 50 µs a message.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributed, nn

import unstuck
from unstuck.ranks.part import RECORD, Losses, Part, Prints
from unstuck.ranks.rows import Rows
from unstuck.ranks.tree import FANOUT, levels
from unstuck.stats.cpu import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Role

SITES = (10, 100, 1_000)
UNITS = 256  # of an activation; a quarter of the rows have any, as in a transformer's blocks
PROCESSES = (1, 2, 4)
RANKS = (2, 8, 64, 512, 4_096)
BANDWIDTH, LATENCY = 1e9, 50e-6  # bytes a second between two machines (10 Gbit/s Ethernet), seconds a message
LAYERS, WIDTH, BATCH = 12, 128, 64  # of the network that is trained


def part_of(rank: int, sites: int) -> Part:
    """Return what a rank with so many sites brings: three rows a site, histograms of 16,384 normal numbers each."""
    generator = torch.Generator().manual_seed(rank)
    kinds: list[TensorSummary] = []
    for number in range(8):
        x = torch.randn(64, UNITS, generator=generator) * 2.0 ** (number - 4)
        kinds.append(summarise(x, unit_dim=1 if number % 4 == 0 else None, interval=(-1.0, 1.0)))
    count = 3 * sites
    roles = [Role.INPUT, Role.OUTPUT, Role.OUTPUT_GRADIENT] * sites
    names = [index // 3 for index in range(count)]
    table = SummaryTable.of(kinds).take([index % 8 for index in range(count)])
    rows = Rows.of_rank(rank, names, roles, [0] * count, [False] * count, table)
    nothing = Losses.of_rank([])
    prints = Prints.of_rank(rank, {name: name for name in range(sites)})
    return Part(0, rows, nothing, nothing, prints, np.full((1, len(RECORD)), float(rank)))


def by_sites(sites: int) -> tuple[int, float, float]:
    """Return the bytes of a part, and the CPU seconds to pack it and to merge those of a group."""
    parts = [part_of(rank, sites) for rank in range(FANOUT)]
    packing, merging = [], []
    for _ in range(5):
        begun = time.process_time()
        data = [part.to_bytes() for part in parts]
        packing.append((time.process_time() - begun) / FANOUT)
        begun = time.process_time()
        Part.merged([Part.from_bytes(one) for one in data]).to_bytes()
        merging.append(time.process_time() - begun)
    return len(data[0]), statistics.median(packing), statistics.median(merging)


def train(steps: int) -> None:
    """Be one process of a training; the first prints what it took, as JSON."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    net = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    several = distributed.get_world_size() > 1
    model = nn.parallel.DistributedDataParallel(net) if several else net
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    took: list[float] = []
    with unstuck.watch(every=1) as run:
        ledger = run.session.schedule.ledger
        for _ in range(steps):
            before = ledger.merging_seconds
            x, y = torch.randn(BATCH, WIDTH), torch.randint(0, 10, (BATCH,))
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            took.append(ledger.merging_seconds - before)
    watching = run.report().trace.facts.watching
    if distributed.get_rank() == 0:
        told = {
            "sites": len(run.session.trace.sites),
            "merges": watching.merges,
            "bytes": watching.merged_bytes,
            "merge": statistics.median(took),
            "cost": watching.sample_seconds,
        }
        print(json.dumps(told))
    distributed.destroy_process_group()


def of_processes(count: int, steps: int) -> dict[str, float]:
    """Run a training in so many processes and return what the first one printed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "benchmarks.ranks", "--train", "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    if done.returncode:
        sys.exit(f"the training in {count} processes failed:\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def reckoned(ranks: int, nbytes: int, merging: float) -> float:
    """Return the seconds of a merge: level by level, the busiest leader receives, and merges, one after the other."""
    seconds = 0.0
    for group in levels(0, ranks):
        others = len(group) - 1
        seconds += others * (2 * LATENCY + nbytes / BANDWIDTH) + merging * len(group) / FANOUT
        seconds += others * 2 * LATENCY  # the answer
    return seconds


def lines(steps: int) -> Iterator[str]:
    """Yield the three tables as markdown."""
    yield "| sites | a rank's part | to pack it | to merge 8 of them |\n|---:|---:|---:|---:|"
    sizes = {}
    for sites in SITES:
        sizes[sites] = by_sites(sites)
        nbytes, packing, merging = sizes[sites]
        yield f"| {sites:,} | {nbytes / 1e6:.3f} MB | {1e3 * packing:.1f} ms | {1e3 * merging:.0f} ms |"
    yield "\n| processes | sites | a merge, median | bytes of rank 0, a merge |\n|---:|---:|---:|---:|"
    for count in PROCESSES:
        told = of_processes(count, steps)
        each = told["bytes"] / told["merges"] if told["merges"] else 0.0
        yield f"| {count} | {told['sites']:.0f} | {1e3 * told['merge']:.1f} ms | {each / 1e3:.1f} kB |"
    yield "\n| ranks | rank 0 receives | " + " | ".join(f"a merge, {sites:,} sites" for sites in SITES[1:]) + " |"
    yield "|---:|---:|" + "---:|" * len(SITES[1:])
    for ranks in RANKS:
        parts = sum(len(group) - 1 for group in levels(0, ranks))
        times = " | ".join(f"{1e3 * reckoned(ranks, sizes[sites][0], sizes[sites][2]):.0f} ms" for sites in SITES[1:])
        yield f"| {ranks:,} | {parts} parts | {times} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="steps of each training (default: 60)")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.steps)
        return 0
    for line in lines(options.steps):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
