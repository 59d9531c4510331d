"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from unstuck.cli import status
from unstuck.ranks.launch import VARIABLES

from .terminal import Terminal


@pytest.fixture
def unstuck(cli) -> Callable:
    return lambda *arguments: cli("run", *arguments)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(status, "INTERVAL", 0.0)
    yield made
    made.close()
