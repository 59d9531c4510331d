"""The pytest plugin: what pytest loads at each start, whatever is tested; torch comes with the first test that asks.

https://docs.pytest.org/en/stable/how-to/writing_plugins.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unstuck.integrations.pytest_plugin import Trainable

OPTION = "--unstuck-report"
PROPERTY = "unstuck"  # of a test: what was found in a network that it checked


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("unstuck").addoption(
        OPTION,
        metavar="DIR",
        default=None,
        help="write the report of each network that a test checks below DIR/TEST: json, txt and, where it can be, html",
    )


@pytest.fixture
def trainable(request: pytest.FixtureRequest) -> Trainable:
    """Fail the test, with what was found, when a network is not ready to train: call it as `assert_trainable`."""
    from unstuck.integrations.pytest_plugin import Trainable

    node = request.node
    told: Callable[[str], None] = lambda text: node.user_properties.append((PROPERTY, text))  # noqa: E731
    return Trainable(node.nodeid, request.config.getoption(OPTION), told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was found in which test and where the reports are, also of tests that ran in other processes."""
    if config.getoption(OPTION) is None:
        return
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    calls = [report for report in reports if getattr(report, "when", "") == "call"]
    told = [(report.nodeid, text) for report in calls for name, text in report.user_properties if name == PROPERTY]
    terminalreporter.section(f"unstuck: {len(told)} network{'' if len(told) == 1 else 's'} checked")
    for test, text in told:
        terminalreporter.line(f"{test}: {text}")
