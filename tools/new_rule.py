"""Write the files of a new rule: the rule, its test, and a zoo pair, for their author to fill.

    python -m tools.new_rule CODE name [--topic SLUG]

CODE decides the folder (A: activation, D: data, …). The rule's `detect`, its test and the pair fail until they are
written. Nothing that exists is overwritten.
"""

import argparse
import re
import sys
from pathlib import Path

from unstuck.rules.catalogue import all_rules

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "L": ("loss", "LOSS"),
    "I": ("init", "INIT"),
    "A": ("activation", "ACTIVATION"),
    "G": ("gradient", "GRADIENT"),
    "U": ("update", "UPDATE"),
    "N": ("norm", "NORMALISATION"),
    "D": ("data", "DATA"),
    "T": ("loop", "UPDATE"),
    "S": ("attention", "ACTIVATION"),
    "R": ("ranks", "DATA"),
}

RULE = '''"""{code}. After <who found it, where: a paper or a page, with its address>."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Finding
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Signal, Trace


class {cls}(Rule):
    """<What is wrong, in one sentence of at most 110 characters that ends with a full stop.>

    ## What it does
    <What is measured, where, over which steps, and against which threshold.>

    ## Why is this bad
    <What it does to training.>

    ## Evidence
    <The numbers a finding carries.>

    ## Stays silent on
    <What looks like the fault and is none.>

    ## Example
        <the shortest code that has it>

    ## Fix
    <What to do.>

    ## References
    - <title, https://...>
    """

    code = "{code}"
    name = "{name}"
    stage = Stage.{stage}
    needs = (Signal.STEPS,)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """<Judge what by what.>"""
        raise NotImplementedError("{code} judges nothing yet")
'''

TEST = """import pytest

from unstuck.rules.{folder}.{module} import {cls}

from ..helpers import TraceBuilder, check_fires, check_silent


class TestSilent:
    def test_the_nearest_healthy_case(self):
        check_silent({cls}, TraceBuilder().trace)


class TestFires:
    def test_the_fault(self):
        check_fires({cls}, TraceBuilder().trace, at=None)

    def test_near_the_threshold(self):
        pytest.fail("a pair of traces just below and just above it")
"""

PROGRAM = '''"""<What is learned, from what.>"""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)
inputs = torch.randn(2048, 8)
targets = torch.sin(inputs[:, :1]) * inputs[:, 1:2]

model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(300):
    batch = torch.randint(0, 1536, (64,))
    optimizer.zero_grad()
    loss = F.mse_loss(model(inputs[batch]), targets[batch])
    loss.backward()
    optimizer.step()

with torch.no_grad():
    print("final_loss", F.mse_loss(model(inputs[1536:]), targets[1536:]).item())
'''

EXPECT = """root = "{code}"
codes = ["{code}"]
line = 0
metric = "final_loss"
"""


def files(code: str, name: str, topic: str) -> dict[Path, str]:
    """Return the files to write; raises ValueError when code or name cannot be those of a new rule."""
    if not re.fullmatch(r"[A-Z]\d{3}", code) or code[0] not in FOLDERS:
        raise ValueError(f"{code!r} is no code: a letter of {', '.join(FOLDERS)} and three digits, such as A008")
    if code in all_rules():
        raise ValueError(f"{code} is {all_rules()[code].name} already; codes are never used again")
    for what, text in (("name", name), ("topic", topic)):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text):
            raise ValueError(f"{text!r} is no {what}: small letters and digits joined by hyphens")
    if name in {rule.name for rule in all_rules().values()}:
        raise ValueError(f"a rule is called {name} already")
    folder, stage = FOLDERS[code[0]]
    module, cls = name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-"))
    words = {"code": code, "name": name, "cls": cls, "stage": stage, "folder": folder, "module": module}
    pair = ROOT / "zoo" / "faulty" / topic
    return {
        ROOT / "src" / "unstuck" / "rules" / folder / f"{module}.py": RULE.format(**words),
        ROOT / "tests" / "rules" / folder / f"test_{module}.py": TEST.format(**words),
        pair / "fixed.py": PROGRAM,
        pair / "faulty.py": PROGRAM,
        pair / "expect.toml": EXPECT.format(**words),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files and say which."""
    parser = argparse.ArgumentParser(prog="python -m tools.new_rule", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("code", help="a letter for the group and three digits, such as A008")
    parser.add_argument("name", help="what is wrong, in hyphened words, such as dead-units")
    parser.add_argument("--topic", help="folder of the zoo pair, after what it learns (default: topic-CODE)")
    options = parser.parse_args(arguments)
    try:
        new = files(options.code, options.name, options.topic or f"topic-{options.code.lower()}")
    except ValueError as error:
        parser.error(str(error))
    if there := [path for path in new if path.exists()]:
        parser.error(f"{there[0].relative_to(ROOT)} exists; nothing was written")
    for path, text in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
