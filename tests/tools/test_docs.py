"""The rules' pages and the README's table are what the docstrings say."""

import shutil

import pytest

from tools import docs
from unstuck.rules.catalogue import all_rules


def test_nothing_is_stale():
    assert [str(path.relative_to(docs.ROOT)) for path in docs.stale()] == [], "run python -m tools.docs"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of what is generated, to spoil."""
    shutil.copy(docs.ROOT / "README.md", tmp_path)
    shutil.copytree(docs.ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("README.md", "| overconfident-start |"),
        ("docs/rules/index.md", "[L001 overconfident-start]"),
        ("docs/rules/L001.md", "# L001 overconfident-start"),
    ],
)
def test_a_changed_file_is_named_and_written_anew(copy, name, part, capsys):
    file = copy / name
    good = file.read_text()
    assert part in good
    file.write_text(good.replace(part, "spoilt"))
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out == f"{name}\n"
    assert file.read_text() != good
    assert docs.main([]) == 0
    assert file.read_text() == good
    assert docs.main(["--check"]) == 0


def test_the_page_of_a_rule_that_there_is_not_goes(copy):
    (copy / "docs" / "rules" / "Z999.md").write_text("# Z999")
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert not (copy / "docs" / "rules" / "Z999.md").exists()


def test_a_readme_without_a_place_for_the_table(copy):
    (copy / "README.md").write_text("# unstuck\n")
    with pytest.raises(ValueError, match="has no lines"):
        docs.main([])


def test_a_page_holds_what_the_command_shows():
    rule = all_rules()["U001"]
    text = docs.page(rule)
    assert text.startswith("# U001 oversized-updates\n")
    assert rule.documentation() in text
    assert "| `max_ratio` | 0.03 | update-to-data ratio |" in text
    assert "[A002](A002.md)" in text
