"""The documentation in a browser: no page is wider than its window, and options stand in one line."""

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

PAGES = ("index", "accuracy", "cost", "lesson", "tutorial", "faq", "how-to/index", "how-to/trackers", "cli/run")
WHOLE = """() => [...document.querySelectorAll(".option")].filter((one) => one.getClientRects().length !== 1).length"""
CUT = """() => [...document.querySelectorAll("pre > code")].filter((one) => one.scrollWidth > one.clientWidth).length"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_not_wider_than_its_window_and_options_are_whole(visit, site, page, width):
    seen = visit(site / f"{page}.html", width=width)
    assert (seen.overflow, seen.value(WHOLE)) == (0, 0)


@pytest.mark.slow
def test_the_first_commands_fit_a_laptop(visit, site):
    assert visit(site / "index.html", width=1280).value(CUT) == 0
