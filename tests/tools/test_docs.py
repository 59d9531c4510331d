"""The pages of rules and remedies and the README's table are what the docstrings say."""

import shutil

import pytest

from tools import docs
from unstuck.fixes.catalogue import all_remedies
from unstuck.fixes.patches.catalogue import all_patchers
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
        ("docs/remedies/index.md", "[drop-softmax](drop-softmax.md) (L004)"),
        ("docs/remedies/rescale-weights.md", "- applicability: unsafe"),
        ("docs/remedies/drop-softmax.md", "## When it must not be used"),
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


@pytest.mark.parametrize("name", ["rules/Z999.md", "remedies/drop-everything.md"])
def test_the_page_of_what_there_is_not_goes(copy, name, capsys):
    (copy / "docs" / name).write_text("# old")
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out == f"docs/{name}\n"
    assert docs.main([]) == 0
    assert not (copy / "docs" / name).exists()


def test_a_missing_folder_is_made(copy):
    shutil.rmtree(copy / "docs" / "remedies")
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    assert (copy / "docs" / "remedies" / "index.md").is_file()


def test_a_readme_without_a_place_for_the_table(copy):
    (copy / "README.md").write_text("# unstuck\n")
    with pytest.raises(ValueError, match="has no lines"):
        docs.main([])


def test_a_page_holds_what_the_command_shows():
    rule = all_rules()["U001"]
    text = docs.page(rule)
    assert text.startswith("# U001 oversized-updates\n")
    assert rule.documentation() in text
    assert "| `max_ratio` | 0.035 | update-to-data ratio |" in text
    assert "[A002](A002.md)" in text
    assert "[scale-learning-rate](../remedies/scale-learning-rate.md)" in text


def test_the_page_of_a_rule_names_its_patch():
    assert "- mended by: [drop-softmax](../remedies/drop-softmax.md)\n" in docs.page(all_rules()["L004"])
    assert "mended by" not in docs.page(all_rules()["D002"])


def test_every_remedy_and_patch_has_a_page_of_its_own_that_a_rule_links_to():
    names = [*all_remedies(), *(patcher.name for patcher in all_patchers().values())]
    assert len(names) == len(set(names))
    pages = docs.wanted()
    linked = "".join(pages[docs.ROOT / "docs" / "rules" / f"{code}.md"] for code in all_rules())
    for name in names:
        page = pages[docs.ROOT / "docs" / "remedies" / f"{name}.md"]
        assert page.startswith(f"# {name}\n\n")
        assert f"[{name}](../remedies/{name}.md)" in linked
        assert "](../rules/" in page


@pytest.mark.parametrize(
    ("name", "how", "rules"),
    [
        ("rescale-weights", "to a script while it trains by `unstuck run --unsafe-fixes`", "[I002](../rules/I002.md)"),
        ("recalibrate-running-statistics", "while it trains by `unstuck run --fix`", "[N003](../rules/N003.md)"),
        ("fold-bias-into-norm", "after its first forward pass by `unstuck run --fix`", "[N001](../rules/N001.md)"),
    ],
)
def test_the_page_of_a_remedy(name, how, rules):
    remedy = all_remedies()[name]
    text = docs.remedy_page(remedy)
    assert remedy.documentation() in text
    assert how in text
    assert rules in text.splitlines()[-1]


def test_the_page_of_a_patch():
    patcher = all_patchers()["L004"]
    text = docs.patch_page(patcher)
    assert patcher.documentation() in text
    assert text.endswith("`unstuck fix SCRIPT`\n- for: [L004](../rules/L004.md)\n")
