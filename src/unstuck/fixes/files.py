"""A Python file's text together with the bytes it is stored as."""

from __future__ import annotations

import codecs
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceFile:
    """A Python file: its path, its text with the line endings it has, and its encoding, "utf-8-sig" with a BOM."""

    path: Path
    text: str
    encoding: str

    def encoded(self, text: str) -> bytes:
        """Return another text as the bytes that would be stored in this file."""
        return text.encode(self.encoding)


def read_source(path: Path) -> SourceFile:
    """Read a Python file by its own encoding declaration (https://docs.python.org/3/reference/lexical_analysis.html).

    Raises OSError, and ValueError when the declaration names no encoding or the bytes are not of it.
    """
    data = path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return SourceFile(path, codecs.decode(data, encoding), encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}; declare its encoding, as in `# coding: latin-1`") from None
