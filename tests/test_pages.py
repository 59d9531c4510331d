"""What the pages name is there: files, tests, modules to run, what links lead to; no room is left out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "tests", "docs", "examples", "tools", "benchmarks", "zoo", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
WRITTEN = {"fixes.py", "unstuck/report.html"}  # by unstuck, for its user
USERS = {"train.py"}


@cache
def files() -> frozenset[str]:
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    return frozenset(path.relative_to(ROOT).as_posix() for path in [*below, *ROOT.glob("*.*"), *ROOT.glob(".ci/*")])


def called(name: str) -> list[str]:
    return [file for file in files() if file == name or file.endswith(f"/{name}")]


def missing(page: Path) -> list[str]:
    """Return what a page names that is not there."""
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`([\w./-]+\.(?:py|md|json|txt|yml|toml|css|js|html))(?:::(\w+))?`", text)
    lost = [name for name, _ in names if name not in WRITTEN | USERS and not called(name)]
    for name, test in ((name, test) for name, test in names if test):
        trees = [ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))) for file in called(name)]
        if test not in {getattr(node, "name", "") for tree in trees for node in tree}:
            lost.append(f"{name}::{test}")
    for module in re.findall(r"python -m ((?:tools|zoo|benchmarks)[\w.]*\w)", text):
        path = module.replace(".", "/")
        lost += [] if {f"{path}.py", f"{path}/__main__.py"} & files() else [module]
    links = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text)
    return lost + [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page):
    assert missing(page) == []


def test_what_is_not_there_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`nowhere.py` `tests/test_pages.py::test_no` `python -m tools.nothing` [a](b.md) `tests/test_pages.py`\n"
    )
    assert missing(page) == ["nowhere.py", "tests/test_pages.py::test_no", "tools.nothing", "b.md"]


def test_the_architecture_names_each_room_and_module_of_the_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    parts = [path for path in (ROOT / "src" / "unstuck").iterdir() if not path.name.startswith("_")]
    names = {f"{path.name}/" if path.is_dir() else path.name for path in parts if path.is_dir() or path.suffix == ".py"}
    assert {name for name in names if f"`{name}`" not in text} == set()
