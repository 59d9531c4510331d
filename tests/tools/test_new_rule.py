"""The files of a new rule."""

import ast
import tomllib

import pytest

from tools import new_rule
from unstuck.rules.rule import HEADINGS


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(new_rule, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A1", "odd"], "'A1' is no code: a letter of"),
        (["Z001", "odd"], "'Z001' is no code: a letter of"),
        (["A001", "odd"], "A001 is saturated already"),
        (["A999", "saturated"], "a rule is called saturated already"),
        (["A999", "Odd_Name"], "'Odd_Name' is no name"),
        (["A999", "odd", "--topic", "a b"], "'a b' is no topic"),
    ],
)
def test_what_cannot_be_a_rule(root, capsys, arguments, message):
    with pytest.raises(SystemExit):
        new_rule.main(arguments)
    assert message in capsys.readouterr().err
    assert list(root.iterdir()) == []


def test_nothing_is_overwritten(root, capsys):
    assert new_rule.main(["A999", "odd-units"]) == 0
    kept = {path: path.read_text() for path in root.rglob("*.py")}
    with pytest.raises(SystemExit):
        new_rule.main(["A999", "odd-units"])
    assert "exists; nothing was written" in capsys.readouterr().err
    assert kept == {path: path.read_text() for path in root.rglob("*.py")}


def test_what_is_written_can_be_read_and_fails_until_it_is_filled(root):
    new_rule.main(["S999", "odd-units", "--topic", "lake-tides"])
    rule = root / "src/unstuck/rules/attention/odd_units.py"
    namespace = {}
    exec(compile(rule.read_text(), rule, "exec"), namespace)
    cls = namespace["OddUnits"]
    assert (cls.code, cls.name) == ("S999", "odd-units")
    assert tuple(cls.sections()) == ("", *HEADINGS)
    with pytest.raises(NotImplementedError, match="S999"):
        cls().detect(None)
    ast.parse((root / "tests/rules/attention/test_odd_units.py").read_text())
    pair = root / "zoo/faulty/lake-tides"
    assert (pair / "faulty.py").read_text() == (pair / "fixed.py").read_text()
    assert tomllib.loads((pair / "expect.toml").read_text())["root"] == "S999"
