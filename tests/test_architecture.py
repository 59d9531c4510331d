"""The house rules: who may import whom, and how large things may grow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
MAX_FILE, MAX_FUNCTION = 400, 60
LONGER = {"unstuck.capture.functions", "unstuck.stats.passes"}  # a table; one file for numba's cache, as it says
ROOMS = {"capture", "stats", "trace", "rules", "findings", "fixes", "report", "config", "api", "cli", "ui", "lm"}
ROOMS |= {"ranks"}

FORBIDDEN = {  # room -> what it must never import
    "ranks": ("unstuck.rules", "unstuck.findings", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "stats": ("unstuck.capture", "unstuck.trace", "unstuck.rules", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "trace": ("torch", "unstuck.capture", "unstuck.rules", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "findings": ("torch", "unstuck.capture", "unstuck.rules", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "rules": ("torch", "unstuck.capture", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "capture": ("unstuck.rules", "unstuck.findings", "unstuck.fixes", "unstuck.report", "unstuck.api"),
    "fixes": ("unstuck.report", "unstuck.api"),
    "report": ("torch", "unstuck.capture", "unstuck.fixes", "unstuck.api"),
    "ui": ("torch", "unstuck.capture", "unstuck.fixes", "unstuck.stats", "unstuck.api"),
    "config": ("torch", *(f"unstuck.{room}" for room in sorted(ROOMS - {"config"}))),
    "lm": tuple(f"unstuck.{room}" for room in sorted(ROOMS - {"lm"})),
    "api": ("unstuck.cli",),
}
for upstream in ("stats", "trace", "findings", "rules", "capture", "fixes", "report", "ui"):
    FORBIDDEN[upstream] = (*FORBIDDEN[upstream], "unstuck.ranks")


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module below src."""
    found = {}
    for path in sorted((SRC / "unstuck").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[str]:
    """Yield what a module imports anywhere in it: also inside functions and under TYPE_CHECKING."""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def breaks(name: str, forbidden: tuple[str, ...]) -> list[str]:
    return [i for i in imports(name) if any(i == f or i.startswith(f + ".") for f in forbidden)]


def in_room(wanted: str) -> list[str]:
    return [name for name in modules() if room(name) == wanted]


class TestImports:
    @pytest.mark.parametrize("name", FORBIDDEN)
    def test_a_room_imports_only_what_lies_upstream(self, name):
        found = in_room(name)
        assert found, f"no module in {name}"
        assert {module: bad for module in found if (bad := breaks(module, FORBIDDEN[name]))} == {}

    def test_numbers_and_rules_do_not_reach_torch_over_another_module_either(self):
        def reached(name: str, seen: set[str]) -> set[str]:
            for module in {m for m in imports(name) if m in modules() and m != "unstuck"} - seen:
                seen |= {module}
                reached(module, seen)
            return seen

        for name in [*in_room("trace"), *in_room("rules"), *in_room("findings")]:
            for module in reached(name, {name}):
                assert breaks(module, ("torch", "unstuck.capture")) == [], f"{name} reaches {module}"

    def test_only_the_command_line_imports_the_language_model(self):
        others = [name for name in modules() if room(name) not in ("lm", "cli")]
        assert {name: bad for name in others if (bad := breaks(name, ("unstuck.lm",)))} == {}

    def test_only_the_entry_point_imports_the_command_line(self):
        others = [name for name in modules() if room(name) not in ("cli", "__main__")]
        assert {name: bad for name in others if (bad := breaks(name, ("unstuck.cli",)))} == {}

    def test_what_a_fix_is_depends_on_no_rule(self):
        assert breaks("unstuck.fixes.fix", ("unstuck.rules", "torch")) == []

    @pytest.mark.parametrize("folder", ["zoo", "examples"])
    def test_programs_to_be_watched_do_not_know_us(self, folder):
        ours = (ROOT / "zoo", ROOT / "examples" / "neighbours")  # those of neighbours show the line that they add
        files = [p for p in (ROOT / folder).rglob("*.py") if p.parent not in ours]
        assert files
        for path in files:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"^\s*(import|from) unstuck\b", text, re.MULTILINE), path

    def test_the_check_sees_every_form_of_import(self, tmp_path, monkeypatch):
        path = tmp_path / "made.py"
        path.write_text(
            "import a.b as c\nfrom .x import y\nfrom . import z\nfrom ..up import u\n"
            "if TYPE_CHECKING:\n    from t import T\n"
            "def f():\n    import inside\n    importlib.import_module('called')\n"
        )
        monkeypatch.setitem(modules(), "unstuck.room.made", path)
        assert set(imports("unstuck.room.made")) == {
            "a.b",
            "unstuck.room.x",
            "unstuck.room.x.y",
            "unstuck.room",
            "unstuck.room.z",
            "unstuck.up",
            "unstuck.up.u",
            "t",
            "t.T",
            "inside",
            "called",
        }
        tree.cache_clear()


class TestSize:
    @pytest.mark.parametrize("name", sorted(set(modules()) - LONGER))
    def test_files(self, name):
        assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= MAX_FILE

    def test_functions(self):
        long = [
            f"{name}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
            for name in modules()
            for node in ast.walk(tree(name))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno + 1 > MAX_FUNCTION
        ]
        assert long == []


class TestText:
    @pytest.mark.parametrize("name", modules())
    def test_a_module_says_what_it_does(self, name):
        assert (ast.get_docstring(tree(name)) or "").strip() or name == "unstuck._version"

    def test_nothing_is_left_to_do(self):
        words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
        assert [name for name, path in modules().items() if words.search(path.read_text(encoding="utf-8"))] == []

    def test_nothing_outside_the_repository_is_named(self):
        outside = "shared" + "/"
        files = [p for folder in ("src", "tests", "zoo", "examples") for p in (ROOT / folder).rglob("*.py")]
        assert len(files) > 100
        assert [str(p) for p in files if outside in p.read_text(encoding="utf-8")] == []
