"""Run a program with all its seeds moved: what the noise between seeds is measured by.

python -m zoo.reseeded SCRIPT --by N
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program

SEEDS = (
    (random, "seed"),
    (torch, "manual_seed"),
    (np.random, "seed"),
    (np.random, "default_rng"),
)


@contextmanager
def reseeded(by: int) -> Iterator[None]:
    """Within the block, the seeds that the zoo's programs use, torch's, numpy's and Python's, are moved by `by`."""

    def moved(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda seed=None: original(seed + by if isinstance(seed, int) else seed)

    with ExitStack() as stack:
        for module, name in SEEDS:
            stack.enter_context(patch.object(module, name, moved(getattr(module, name))))
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run a script with other seeds; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.reseeded", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("script", type=Path)
    parser.add_argument("--by", type=int, required=True)
    options = parser.parse_args(arguments)
    with reseeded(options.by):
        return run_program(read_program(options.script), []).exit_code


if __name__ == "__main__":
    raise SystemExit(main())
