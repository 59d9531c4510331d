"""What a patch is, and what makes one."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import ClassVar

import libcst as cst

from unstuck.findings import Finding
from unstuck.fixes.patches.source import Source


class NoPatch(Exception):  # noqa: N818  (an answer, not an error)
    """A finding that cannot be removed by changing the source; the message says why, for the user."""


@dataclass(frozen=True)
class Patch:
    """A proposed change of one file: the whole text `before` and `after`, and what it does in one sentence."""

    name: str
    code: str
    file: Path
    line: int  # of the finding
    before: str
    after: str
    summary: str

    def diff(self) -> str:
        """Return the change as a unified diff of the file's name."""
        return unified_diff(self.before, self.after, PurePath(self.file).name)


def unified_diff(before: str, after: str, name: str) -> str:
    """Return the unified diff from one text of a file to another, as `diff -u` and `git diff` write it."""
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


@lru_cache(maxsize=1)
def _parsed(text: str) -> Source:
    """Parse a file once for all its findings: patchers make new modules and leave this one as it is."""
    return Source(text)


class Patcher(ABC):
    """Makes the patch for the findings of one rule.

    Subclasses set the class variables and write `rewrite`; their docstring is the patch's page.
    """

    name: ClassVar[str]
    code: ClassVar[str]
    summary: ClassVar[str]
    changes_objective: ClassVar[bool] = False  # whether losses with the patch and without it are of two kinds
    changes_step_size: ClassVar[bool] = False  # whether updates grow or shrink, so that early losses say little

    @classmethod
    def incomparable(cls) -> str:
        """Say why the losses with the patch and without it do not compare; "" where they do."""
        if cls.changes_objective:
            return "the loss is another one, so the two numbers do not compare"
        return "the updates are of another size, so the two numbers do not compare" if cls.changes_step_size else ""

    @abstractmethod
    def rewrite(self, source: Source, finding: Finding) -> cst.Module:
        """Return the module without the fault; raises NoPatch when the source is not of a form that is understood."""

    def patch(self, text: str, finding: Finding, file: Path) -> Patch:
        """Return the patch of a file's text.

        Raises NoPatch when there is none, or when what came out does not parse or is the same program.
        """
        if finding.location is None:
            raise NoPatch("the finding names no line")
        try:
            source = _parsed(text)
        except cst.ParserSyntaxError as error:
            raise NoPatch(f"{file.name} cannot be parsed: {error.message}") from None
        if source.module.code != text:
            raise NoPatch(f"{file.name} has line endings that cannot be kept")
        after = self.rewrite(source, finding).code
        try:
            same = ast.dump(ast.parse(after)) == ast.dump(ast.parse(text))
        except SyntaxError as error:
            raise NoPatch(f"the patched {file.name} would not parse: {error.msg}") from None
        if same:
            raise NoPatch(f"nothing to change at line {finding.location.line} of {file.name}")
        return Patch(self.name, self.code, file, finding.location.line, text, after, self.summary)

    @classmethod
    def documentation(cls) -> str:
        """Return the docstring, de-indented."""
        return inspect.cleandoc(cls.__doc__ or "")
