"""`python -m tools.fuzz`: damage valid files by the thousands and read them; anything but a documented error is told.

A case is its number: `python -m tools.fuzz run --first 1234 --cases 1` reads the same file again.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from tools.fuzz.targets import TARGETS, Target

MEMORY_BYTES = 4 << 30  # that a process may take beyond what it has when it begins
CASE_SECONDS = 20  # that no case may take
SHARES = {"report": 0.1, "page": 0.002, "tensors": 0.1, "kept": 0.1}  # of the cases asked for: these take longest


class TooSlowError(BaseException):
    """A case took longer than `CASE_SECONDS`."""


def _too_slow(*_: object) -> None:
    raise TooSlowError


def fuzz(target: Target, first: int, cases: int, folder: Path) -> tuple[int, int, Counter[str], dict[str, int]]:
    """Run cases until interrupted; return how many, how many were accepted, and of each kind of crash how often and a
    case of it.
    """
    accepted, crashes, example = 0, Counter[str](), {}
    for seed in range(first, first + cases):
        signal.alarm(CASE_SECONDS)
        try:
            accepted += target.attempt(seed, folder)
        except KeyboardInterrupt:
            return seed - first, accepted, crashes, example
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is told)
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "unstuck" in f.filename]
            last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            kind = f"{type(error).__name__} {last}"
            crashes[kind] += 1
            example.setdefault(kind, seed)
        finally:
            signal.alarm(0)
    return cases, accepted, crashes, example


def main() -> int:
    """Run the cases that are asked for; the exit code is 1 when one crashed."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} [all of them]")
    parser.add_argument("--cases", type=int, default=1_000, help="of each target; of some that are slow, a share")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}: choose from {', '.join(TARGETS)}")
    faulthandler.enable()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was done until then is told
    failed = False
    fast = Path("/dev/shm")  # a file system in memory, where there is one
    for name in asked.targets or TARGETS:
        target = TARGETS[name]
        cases = asked.cases if asked.targets else max(1, round(asked.cases * SHARES.get(name, 1.0)))
        target.valid()
        _limit_memory()
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
            done, accepted, crashes, example = fuzz(target, asked.first, cases, Path(folder))
        seconds = time.perf_counter() - begun
        print(
            f"{name:<12} {done:>8,} cases {seconds:>7.1f} s  accepted {accepted:>7,}  crashes {sum(crashes.values())}",
            flush=True,
        )
        for kind, count in crashes.most_common():
            print(f"    {count} × {kind} (--first {example[kind]} --cases 1)", flush=True)
        failed |= bool(crashes)
    return int(failed)


def _limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, hard))


if __name__ == "__main__":
    sys.exit(main())
