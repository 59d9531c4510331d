"""What a fault's rule has to say to a reader of the page: why it is bad, and what to do."""

from __future__ import annotations

import re
from html import escape

from unstuck.rules.catalogue import all_rules

HEADINGS = {"Why it matters": "Why is this bad", "What to do": "Fix"}
"""What the page calls a section of a rule's documentation, and the rule."""


def lesson(code: str) -> str:
    """Return a rule's answers as a list of terms in HTML; "" for a code that no rule has."""
    rule = all_rules().get(code)
    if rule is None:
        return ""
    sections = rule.sections()
    terms = (f"<dt>{term}</dt><dd>{_prose(sections[heading])}</dd>" for term, heading in HEADINGS.items())
    return f'<dl class="lesson">{"".join(terms)}</dl>\n'


def _prose(text: str) -> str:
    """Return a paragraph of a docstring, escaped; what stands between backticks becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))
