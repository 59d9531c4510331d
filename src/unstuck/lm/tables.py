"""Rows of cells as aligned text or as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence


def draw(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """The table's lines; every row as long as the header, and no cell with a line break or a |."""
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)
