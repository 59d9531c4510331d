"""Run a program with all its seeds moved: what the noise between seeds is measured by.

python -m zoo.reseeded SCRIPT --by N
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program


@contextmanager
def reseeded(by: int) -> Iterator[None]:
    """Within the block, `torch.manual_seed(n)` seeds with n + `by`; the zoo's programs have no other seeds."""
    original = torch.manual_seed

    def manual_seed(seed: int) -> torch.Generator:
        return original(seed + by)

    with patch.object(torch, "manual_seed", manual_seed):
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
