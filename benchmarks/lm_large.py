"""Ten million words: time and peak memory of making the token files, training on them and evaluating, as a table.

    python -m benchmarks.lm_large [--lines 10000000] [--split hash] [--folder DIR]

The words are halves of the shipped names put together by a seeded generator; each command is a process of its own, and
its peak is the largest resident set that the system saw (Linux counts in it the pages of the token files that were
read, which it can drop at any time).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unstuck.lm.data import read_words

BLOCK = 1_000_000


def write_words(path: Path, lines: int, seed: int = 0) -> None:
    """A file of `lines` words: the first half of one name and the second half of another."""
    names = read_words().words
    heads, tails = [n[: len(n) // 2 + 1] for n in names], [n[len(n) // 2 :] for n in names]
    random = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, lines, BLOCK):
            picks = random.integers(len(names), size=(min(BLOCK, lines - first), 2)).tolist()
            file.writelines(f"{heads[a]}{tails[b]}\n" for a, b in picks)


def measured(*arguments: str, cache: Path) -> tuple[float, float, str]:
    """Seconds, peak resident MiB and the last line of output of `unstuck lm …` in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "unstuck", "lm", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output.splitlines()[-1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--split", default="hash", help="as of unstuck lm train; without token files: words")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        data = folder / "words.txt"
        write_words(data, options.lines)
        print(f"{options.lines:,} lines, {data.stat().st_size / 2**20:,.0f} MiB\n")
        print("| what | seconds | peak MiB | last line |")
        print("|---|---|---|---|")
        train = ("train", "--data", str(data), "--split", options.split, "--no-preflight")
        for title, arguments in {
            "mlp, 1 step: making the token files": (*train, "--steps", "1", "--out", str(folder / "first")),
            "mlp, 1 step: token files there": (*train, "--steps", "1", "--out", str(folder / "second")),
            "mlp, 1,200 steps of 512": (*train, "--out", str(folder / "mlp")),
            "gru, 100 steps of 64 words": (*train, "--model", "gru", "--steps", "100", "--out", str(folder / "gru")),
            "eval mlp, whole validation part": ("eval", str(folder / "mlp")),
            "sample mlp, 1,000 new words": ("sample", str(folder / "mlp"), "-n", "1000", "--unique"),
        }.items():
            seconds, peak, last = measured(*arguments, cache=folder / "cache")
            print(f"| {title} | {seconds:.1f} | {peak:,.0f} | {last} |", flush=True)


if __name__ == "__main__":
    main()
