"""Of the tests marked slow a fixed part is run, unless all are asked for."""

from __future__ import annotations

import zlib

import pytest

SLOW_PARTS = 3  # of the tests marked slow, one in so many is run unless all are asked for


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow all`: every test, however long."""
    parser.addoption("--slow", choices=("all", "part", "none"), default="part", help="tests marked slow (part)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out most of what is slow: the same part each time, by a hash of the test's name.

    A test that is named on the command line, or chosen by `-m slow`, is run.
    """
    how = config.getoption("--slow")
    if how == "all" or config.option.markexpr or any("::" in argument for argument in config.args):
        return
    left = [
        item
        for item in items
        if item.get_closest_marker("slow") and (how == "none" or zlib.crc32(item.nodeid.encode()) % SLOW_PARTS)
    ]
    config.hook.pytest_deselected(items=left)
    gone = set(map(id, left))
    items[:] = [item for item in items if id(item) not in gone]
