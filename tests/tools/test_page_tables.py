"""Tables come from their files as they stand there; a place without a table is named."""

import re

import pytest
from tools.lesson import parse, unshown

from tools import tables

FILE = """\
# Title

| a | b |
|---|---|
| 0 | 0 |

## Part

words

| rule | b |
|---|---|
| A001 | 2 |

more

| a | c |
|---|---|
| 3 | A001 |

### Below

| d |
|---|
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "numbers.md").write_text(FILE)


def page(place, table="old\n"):
    return f"before\n\n<!-- table: {place} -->\n{table}<!-- end of table -->\n\nafter\n"


def test_a_page_without_places_stays():
    assert tables.filled("# A page\n\n| x |\n|---|\n", "p") == "# A page\n\n| x |\n|---|\n"


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("numbers.md | Title | a", "| a | b |\n|---|---|\n| 0 | 0 |\n"),
        ("numbers.md | Part | a", "| a | c |\n|---|---|\n| 3 | A001 |\n"),
        ("numbers.md | Part | a | c", "| a | c |\n|---|---|\n| 3 | A001 |\n"),
        ("numbers.md | Part | rule", "| rule | b |\n|---|---|\n| [A001](rules/A001.md) | 2 |\n"),
        ("numbers.md | Below | d", "| d |\n|---|\n"),
    ],
)
def test_the_table_is_written_and_then_stays(place, wanted):
    new = tables.filled(page(place), "p")
    assert new == page(place, wanted)
    assert tables.filled(new, "p") == new


def test_two_places():
    both = page("numbers.md | Title | a") + page("numbers.md | Below | d", "")
    assert tables.filled(both, "p").count("|---|") == 2


@pytest.mark.parametrize("place", ["numbers.md | Title | c", "numbers.md | Nowhere | a", "numbers.md | Below | a"])
def test_a_table_that_is_not_there(place):
    with pytest.raises(ValueError, match=r"numbers\.md has no table under '\w+' whose columns begin with '\w'"):
        tables.filled(page(place), "p")


@pytest.mark.parametrize("text", [page("numbers.md"), page("numbers.md | Title | a").replace("end of", "end")])
def test_a_place_that_is_not_written_right(text):
    with pytest.raises(ValueError, match="p: a table's place is"):
        tables.filled(text, "p")


@pytest.mark.parametrize("name", tables.PAGES)
def test_numbers_in_the_prose_are_in_a_table_beside_it(name, monkeypatch):
    monkeypatch.undo()
    text = (tables.ROOT / name).read_text("utf-8")
    assert len(re.findall("<!-- table: ", text)) >= 3
    assert list(unshown(parse(text, name))) == []
