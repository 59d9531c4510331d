"""The rendering to copy from: what was mended, as lines for the user's own code."""

from __future__ import annotations

from pathlib import Path

from unstuck.report.report import Report
from unstuck.report.text import fix_line

FILE = "fixes.py"
HEADER = "# What unstuck mended in "


def render(report: Report) -> str:
    """Return the snippets of the fixes that were kept, each below comments with its place, time and numbers."""
    lines = [f"{HEADER}{report.run.title}. The names are those of the training script, where `model` and"]
    lines += ["# `optimizer` stand for its own names of them (`linear_2`: the second nn.Linear by itself): put"]
    lines += ["# each part there, before the first step or where its comment says; then nothing needs mending.", ""]
    for fix in report.fixes:
        if not fix.kept:
            continue
        lines.append(f"# {fix.code} {fix_line(fix)}")
        lines += [*([f"# {fix.proof}"] if fix.proof is not None else []), *fix.snippet.splitlines(), ""]
    return "\n".join(lines)


def is_ours(path: Path) -> bool:
    """Tell whether a file is there and was written by an earlier report; raises OSError."""
    return path.is_file() and path.read_bytes().startswith(HEADER.encode())
