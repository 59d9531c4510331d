"""The lecture's naive language model, mended by unstuck and mended by hand, trained to the end.

    python -m benchmarks.naive [--steps 200000] [--seeds 1] [--jobs 2] [--data FILE]

Runs examples/naive_names.py as it is, under `unstuck run --unsafe-fixes`, and with the corrections of the lecture
(hidden weights times (5/3)/√30, hidden bias and output weights times 0.01, output bias zero), each on one thread.
Prints training and validation loss in nats for each seed, and what they differ by.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "naive_names.py"
FIRST_SEED = 2147483647  # the lecture's
BY_HAND = {
    "W1 = torch.randn((context * n_embd, n_hidden), generator=g)": " * (5 / 3) / (context * n_embd) ** 0.5",
    "b1 = torch.randn(n_hidden, generator=g)": " * 0.01",
    "W2 = torch.randn((n_hidden, len(stoi)), generator=g)": " * 0.01",
    "b2 = torch.randn(len(stoi), generator=g)": " * 0",
}
WAYS = ("as it is", "unstuck", "by hand")
TARGET = 0.01  # nats of validation loss between unstuck and the corrections by hand


def corrected(text: str) -> str:
    """Return the script with the lecture's corrections; raises ValueError when a line of it is not there."""
    for line, factor in BY_HAND.items():
        if text.count(line) != 1:
            raise ValueError(f"{SCRIPT.name} has no single line {line!r}")
        text = text.replace(line, line + factor)
    return text


def run(way: str, seed: int, steps: int, data: Path | None, folder: Path) -> tuple[float, float]:
    """Train and return (training, validation) loss in nats."""
    script = SCRIPT
    if way == "by hand":
        script = folder / SCRIPT.name
        script.write_text(corrected(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
    command = [
        sys.executable,
        *(["-m", "unstuck", "run", "--no-record", "--unsafe-fixes"] if way == "unstuck" else []),
        str(script),
    ]
    words = data or SCRIPT.parents[1] / "src" / "unstuck" / "lm" / "data" / "names.txt"
    command += ["--steps", str(steps), "--seed", str(seed), "--data", str(words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    said = (line.split() for line in printed.splitlines())
    losses = {words[0]: float(words[2]) for words in said if words[:1] in (["train"], ["val"]) and len(words) == 3}
    return losses["train"], losses["val"]


def main(arguments: list[str] | None = None) -> int:
    """Train all, print the table; return 1 when unstuck ends more than the target above the corrections by hand."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.naive", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, metavar="FILE", help="one word a line (default: the packaged names)")
    options = parser.parse_args(arguments)
    seeds = [FIRST_SEED - n for n in range(options.seeds)]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        jobs = {
            (way, seed): pool.submit(run, way, seed, options.steps, options.data, Path(name))
            for seed in seeds
            for way in WAYS
        }
        losses = {key: job.result() for key, job in jobs.items()}
    print(f"| seed | {' | '.join(f'{way}: train, val' for way in WAYS)} | unstuck - by hand (val) |")
    print("|---|" + "---:|" * (len(WAYS) + 1))
    differences = [losses["unstuck", seed][1] - losses["by hand", seed][1] for seed in seeds]
    for seed, difference in zip(seeds, differences, strict=True):
        cells = " | ".join("{:.4f}, {:.4f}".format(*losses[way, seed]) for way in WAYS)
        print(f"| {seed} | {cells} | {difference:+.4f} |")
    print(f"\nmean difference {mean(differences):+.4f} nat; the target is {TARGET} at most")
    return 0 if mean(differences) <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
