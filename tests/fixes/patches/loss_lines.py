"""Findings at marked lines of a text, and what the patchers make of them."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from unstuck.findings import Evidence, Finding, Place, Severity
from unstuck.fixes.patches.patch import NoPatch, Patcher
from unstuck.trace import Location

FILE = Path("/home/user/train.py")
HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
"""


def text_of(body: str) -> str:
    """Return a file: the usual imports, then `body`, de-indented."""
    return HEAD.lstrip() + dedent(body)


def line_of(text: str, mark: str) -> int:
    """Return the number of the one line that holds `mark`."""
    (line,) = [number for number, line in enumerate(text.splitlines(), 1) if mark in line]
    return line


def place(text: str, site: str, mark: str, function: str = "<module>") -> Place:
    return Place(site, Location(str(FILE), line_of(text, mark), function))


def found(
    code: str,
    at: Place,
    *related: Place,
    evidence: dict[str, float] | None = None,
) -> Finding:
    """Return a finding at a place."""
    shown = tuple(Evidence(name, value) for name, value in (evidence or {}).items())
    return Finding(
        code, "made", Severity.ERROR, at.site, at.location, (0, 9), 1.0, 0.0, "1", "made", shown, related=related
    )


def check_patched(patcher: type[Patcher], text: str, finding: Finding, *changes: tuple[str, str]) -> None:
    """Demand that the patch is exactly these replacements, each of which fits once, and nothing else."""
    patch = patcher().patch(text, finding, FILE)
    wanted = text
    for old, new in changes:
        assert wanted.count(old) == 1, old
        wanted = wanted.replace(old, new)
    assert patch.after == wanted
    ast.parse(patch.after)
    assert (patch.code, patch.name, patch.before) == (finding.code, patcher.name, text)


def check_refused(patcher: type[Patcher], text: str, finding: Finding, reason: str) -> None:
    """Demand that there is no patch, for this reason."""
    with pytest.raises(NoPatch) as refusal:
        patcher().patch(text, finding, FILE)
    assert str(refusal.value) == reason
