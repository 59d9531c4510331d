"""Text that others wrote, for a terminal or a log: names of modules, messages of exceptions, lines of files.

What a terminal would obey is shown instead: control characters as their pictures (https://www.unicode.org/charts/
PDF/U2400.pdf), the others (C1, what turns the direction of writing, separators of lines, halves of characters) as
U+FFFD. GitHub's runner takes lines that begin with "::", and anything after "##[", for commands
(https://docs.github.com/actions/reference/workflow-commands-for-github-actions); a blank in between makes them text.
"""

from __future__ import annotations

import re

UNKNOWN = "\ufffd"
_ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)


def printable(text: str) -> str:
    """Return text of the same length that no terminal obeys; line ends and tabs stay."""
    return _ODD.sub(_picture, text)


def one_line(text: str) -> str:
    """Return text as one printable line."""
    return printable(" ".join(text.split()))


def no_commands(text: str) -> str:
    """Return lines of which GitHub's runner takes none for a command."""
    return _COMMAND.sub(r"\1: ", text).replace("##[", "## [")


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else UNKNOWN
