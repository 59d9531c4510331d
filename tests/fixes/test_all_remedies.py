"""Every remedy is found, documented and named after what it does."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from unstuck.fixes import catalogue
from unstuck.fixes.catalogue import all_remedies
from unstuck.fixes.fix import Applicability
from unstuck.fixes.remedy import HEADINGS, Remedy
from unstuck.rules.catalogue import all_rules

REMEDIES = list(all_remedies().values())


@pytest.fixture
def fresh():
    """Find the remedies anew, and again afterwards."""
    all_remedies.cache_clear()
    yield
    all_remedies.cache_clear()


def test_two_of_one_name(fresh, monkeypatch):
    module = importlib.import_module("unstuck.fixes.recalibrate")
    double = type("Double", (all_remedies()["insert-normalisation"],), {"__module__": module.__name__})
    monkeypatch.setattr(module, "Double", double, raising=False)
    all_remedies.cache_clear()
    with pytest.raises(ValueError, match=r"^two remedies are named insert-normalisation$"):
        all_remedies()


def test_what_is_abstract_or_only_imported_is_none(fresh, monkeypatch):
    module = importlib.import_module("unstuck.fixes.recalibrate")
    before = list(all_remedies())
    monkeypatch.setattr(module, "Imported", all_remedies()["insert-normalisation"], raising=False)
    abstract = type("Abstract", (Remedy,), {"__module__": module.__name__, "name": "abstract"})
    monkeypatch.setattr(module, "Abstract", abstract, raising=False)
    all_remedies.cache_clear()
    assert list(all_remedies()) == before


def test_in_the_order_of_their_names():
    assert list(all_remedies()) == sorted(all_remedies())
    assert all(name == remedy.name for name, remedy in all_remedies().items())
    assert catalogue.all_remedies() is all_remedies()


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)
class TestEach:
    def test_name(self, remedy):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", remedy.name)

    def test_documentation(self, remedy):
        text = remedy.documentation()
        assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS
        first, *_ = text.splitlines()
        assert len(first) <= 110
        assert first.endswith(".")
        assert "https://" in text.split("## References")[1]
        assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))

    def test_declarations(self, remedy):
        assert isinstance(remedy.applicability, Applicability)
        assert remedy.in_flight or not (remedy.rewinds or remedy.repeats)
        assert remedy.applicability is not Applicability.SAFE or not (remedy.rewinds or remedy.initialises)
        assert inspect.getdoc(remedy.apply)

    def test_a_rule_offers_it(self, remedy):
        assert any(remedy.name in inspect.getsource(inspect.getmodule(rule)) for rule in all_rules().values())
