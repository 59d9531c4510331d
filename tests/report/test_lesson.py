"""What the page says of a rule is what the rule says."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from unstuck.report.lesson import HEADINGS, lesson
from unstuck.rules.catalogue import all_rules


class Said(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_code_that_no_rule_has():
    assert lesson("Z999") == ""


@pytest.mark.parametrize("code", all_rules())
def test_its_words_and_no_marks_of_its_notation(code):
    said, sections = Said(lesson(code)), all_rules()[code].sections()
    for term, heading in HEADINGS.items():
        assert f"{term}{' '.join(sections[heading].replace('`', '').split())}" in said.text
    assert said.tags <= {"dl", "dt", "dd", "code"}
    assert "`" not in said.text


def test_signs_of_html_are_text():
    text = lesson("A001")
    assert "<code>--unsafe-fixes</code>" in text
    assert text.count("<code>") == all_rules()["A001"].sections()["Fix"].count("`") / 2
