"""A browser without a network: Debian's chromium, driven by Playwright (https://playwright.dev/python/)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "naive_names.py"
COMMANDS = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"no browser: none of {', '.join(COMMANDS)} is on the PATH; `apt install chromium` brings one"


def chromium() -> str:
    """Return the browser's path; without one the test is skipped, in continuous integration (`CI` set) it fails."""
    found = next((path for path in map(shutil.which, COMMANDS) if path), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for the tests of this folder; it is gone before others, which may run event loops of their own."""
    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@dataclass
class Visit:
    """An open page, and what went on behind it."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Whatever the console was told, and errors that nothing caught."""
    asked: list[str] = field(default_factory=list)
    """The addresses that were asked for, that of the page first; data: and blob: are no addresses."""

    def value(self, script: str, *arguments: Any) -> Any:
        """Return what a JavaScript expression or function gives in the page."""
        return self.page.evaluate(script, *arguments)

    def draw_all(self) -> int:
        """Open all sections and bring each chart into sight; returns how many charts there are, all drawn."""
        self.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        charts = self.page.locator(".chart:visible")
        for number in range(charts.count()):
            charts.nth(number).scroll_into_view_if_needed()
            charts.nth(number).locator("canvas").wait_for()
        return charts.count()

    @property
    def overflow(self) -> int:
        """How many CSS pixels the page is wider than its window."""
        return int(self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Open an address, or a file by its path, in a window of its own that has no network unless `offline` is False."""
    contexts = []

    def go(
        where: str | Path, *, width: int = 1180, height: int = 900, scheme: str = "light", offline: bool = True
    ) -> Visit:
        size: Any = {"width": width, "height": height}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=offline)  # type: ignore[arg-type]
        contexts.append(context)
        made = Visit(context.new_page())
        made.page.on("console", lambda message: made.said.append(f"{message.type}: {message.text}"))
        made.page.on("pageerror", lambda error: made.said.append(f"error: {error}"))
        context.on("request", lambda request: _note(made, request.url))
        made.page.goto(where.resolve().as_uri() if isinstance(where, Path) else where)
        return made

    yield go
    for context in contexts:
        context.close()


def _note(made: Visit, address: str) -> None:
    if not address.startswith(("data:", "blob:")):
        made.asked.append(address)


@dataclass(frozen=True)
class Saved:
    """What `unstuck run --save` or `unstuck report` wrote of a run."""

    folder: Path

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @cached_property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return found


def saved(folder: Path, script: Path, *options: object) -> Saved:
    """Run a script under watch, in a process of its own."""
    said = unstuck("run", "--no-record", "--save", folder, *options, script, cwd=script.parent)
    assert (folder / "report.html").exists(), said
    return Saved(folder)


def unstuck(*arguments: object, cwd: Path) -> str:
    """Run the command in a folder; returns what it said. The exit code of `run` is the script's."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("UNSTUCK_")}
    command = [sys.executable, "-m", "unstuck", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=settings)
    assert done.returncode == 0 or arguments[0] == "run", done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="package")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A run that starts confidently wrong, with a saturated layer; its page and JSON as a user asks for them."""
    folder = tmp_path_factory.mktemp("naive")
    unstuck("run", "--steps", 900, EXAMPLE, cwd=folder)  # more than a chart of the loss has points
    unstuck("report", "latest", "-o", "report.html", cwd=folder)
    unstuck("report", "latest", "-o", "report.json", cwd=folder)
    return Saved(folder)


@pytest.fixture(scope="package")
def mended(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The same script, mended while it starts."""
    return saved(tmp_path_factory.mktemp("mended"), EXAMPLE, "--steps", 40, "--unsafe-fixes")


@pytest.fixture(scope="package")
def normed(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A network of several layers with batch normalisation."""
    folder = tmp_path_factory.mktemp("normed")
    script = folder / "normed.py"
    script.write_text(dedent(NORMED).lstrip(), encoding="utf-8")
    return saved(folder, script)


NORMED = """
    import torch
    from torch import nn

    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x[:, :4].sum(1) > 0).long()
    blocks = [nn.Sequential(nn.Linear(16, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(4)]
    model = nn.Sequential(*blocks, nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(40):
        at = torch.randint(0, 256, (32,))
        loss = nn.functional.cross_entropy(model(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
