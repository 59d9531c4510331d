"""Scripts that tests of the command line run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "naive_names.py"
TRACES = """
    from pathlib import Path
    Path({!r}).touch()
"""
FAILS_LATER = """
    import torch
    w = torch.zeros(3, requires_grad=True)
    for step in range(5):
        (w ** 2).sum().backward()
        w.data -= 0.1 * w.grad
    print("five steps done")
    {}
"""


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
