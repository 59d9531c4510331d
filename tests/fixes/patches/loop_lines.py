"""What the patchers of training loops make of a text, the finding's lines told by what stands on them."""

from __future__ import annotations

import ast

import pytest
from loss_lines import FILE, found, line_of, place, text_of

from unstuck.fixes.patches.patch import NoPatch, Patcher


def check(patcher: type[Patcher], before: str, mark: str, after: str, *related: str) -> None:
    """Demand that the patch for a finding at the line with `mark` makes `after` of `before`."""
    text = text_of(before)
    finding = found(patcher.code, place(text, "site", mark), *(place(text, "other", other) for other in related))
    patch = patcher().patch(text, finding, FILE)
    assert patch.after == text_of(after)
    ast.parse(patch.after)
    assert (patch.code, patch.name, patch.line) == (patcher.code, patcher.name, line_of(text, mark))


def refused(patcher: type[Patcher], before: str, mark: str, *related: str) -> str:
    """Return why there is no patch."""
    text = text_of(before)
    finding = found(patcher.code, place(text, "site", mark), *(place(text, "other", other) for other in related))
    with pytest.raises(NoPatch) as refusal:
        patcher().patch(text, finding, FILE)
    return str(refusal.value)
