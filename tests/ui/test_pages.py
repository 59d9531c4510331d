"""What the pages say; strings of the user's program stay text; no file is shown that a run does not hold."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser

import pytest

from unstuck.trace.folder import FOLDER
from unstuck.ui.library import Library
from unstuck.ui.pages import Page, compare_page, document, list_page, run_page

from .served import RUNNING, change, place

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e😀"


class Found(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def first(folder):
    return folder / FOLDER / "first.sqlite"


class TestSources:
    def test_the_lines_that_the_run_holds_are_shown(self, folder):
        assert "# the line of the loss" in run_page(first(folder)).main

    @pytest.mark.parametrize("page", ["run", "compare"])
    def test_a_file_of_this_machine_that_it_does_not_hold_is_not(self, folder, tmp_path, page):
        secret = tmp_path / "secret.txt"
        secret.write_text("password\n" * 40)
        with closing(sqlite3.connect(first(folder))) as db, db:
            for number, data in db.execute("SELECT number, data FROM sites").fetchall():
                site = json.loads(data)
                if site["location"]:
                    site["location"][0] = str(secret)
                db.execute("UPDATE sites SET data = ? WHERE number = ?", (json.dumps(site), number))
        library = Library(folder)
        made = run_page(first(folder)) if page == "run" else compare_page("first", "second", library)
        assert "secret.txt" in made.main  # a finding names it
        assert "password" not in made.main


class TestRun:
    def test_it_says_how_far_it_is(self, folder):
        assert (run_page(first(folder)).state, run_page(first(folder)).said) == ("ended", "Ended · 30 steps")
        change(first(folder), **RUNNING)
        assert run_page(first(folder)).said == "Running · 30 steps"
        change(first(folder), process=999_999_999)
        assert run_page(first(folder)).state == "broken off"

    def test_the_event_is_the_page(self, folder):
        made = run_page(first(folder))
        event = json.loads(made.event())
        assert (event["head"], event["main"], event["state"]) == (made.head, made.main, "ended")
        assert event["numbers"]["charts"].keys() == made.numbers["charts"].keys() > {"loss"}
        assert "\n" not in made.event()

    def test_one_that_cannot_be_read_says_why(self, tmp_path):
        path = tmp_path / "run.sqlite"
        path.write_bytes(b"SQLite format 3\0" + bytes(100))
        made = run_page(path)
        assert made.state == "waiting"
        assert "cannot read" in made.head


class TestDocument:
    def test_it_loads_files_of_this_server_alone_and_has_no_code_of_its_own(self, folder):
        text = document(run_page(first(folder)), "events?name=first", at="run")
        found = Found(text)
        loaded = [attrs.get("src") or attrs.get("href") for tag in ("script", "link") for attrs in found.all(tag)]
        assert all(one is None or re.fullmatch(r"assets/[a-z]+\.(js|css|svg)", one) for one in loaded)
        assert [attrs for attrs in found.all("script") if "src" not in attrs] == [
            {"type": "application/json", "id": "numbers"}
        ]
        assert found.all("style") == []
        assert [name for _, attrs in found.elements for name in attrs if name == "style" or name.startswith("on")] == []

    def test_what_scripts_look_for_is_on_every_page(self, folder):
        library = Library(folder)
        pages = (run_page(first(folder)), list_page(library), compare_page("first", "second", library))
        for page, at in zip(pages, ("run", "list", "compare"), strict=True):
            ids = [attrs.get("id") for _, attrs in Found(document(page, "events?", at=at)).elements]
            for wanted in ("main", "numbers", "search", "found", "theme", "said", "connection"):
                assert ids.count(wanted) == 1, (at, wanted)

    def test_every_section_can_be_told_from_the_others(self, folder):
        library = Library(folder)
        for page in (run_page(first(folder)), list_page(library), compare_page("first", "second", library)):
            ids = [attrs["id"] for _, attrs in Found(page.main).elements if "id" in attrs]
            assert len(ids) == len(set(ids)) >= 2

    def test_hostile_strings_stay_text(self, folder, stored):
        change(first(folder), run={"title": HOSTILE, "started": HOSTILE, "versions": {HOSTILE: HOSTILE}})
        place(stored, folder, "-_'\"&<b>x", run={"title": HOSTILE})
        library = Library(folder)
        names = sorted(library.paths())
        made = [run_page(first(folder)), list_page(library), compare_page(names[0], names[1], library)]
        made.append(compare_page(HOSTILE, "first", library))
        for page in (*made, Page(HOSTILE, "", "", "ended")):
            found = Found(document(page, f"events?{HOSTILE}", at="run"))
            assert len(found.all("script")) == 4
            assert found.all("img") == found.all("b") == []
            assert all(not name.startswith("on") for _, attrs in found.elements for name in attrs)


class TestList:
    def test_nothing(self, tmp_path):
        made = list_page(Library(tmp_path))
        assert "unstuck run train.py" in made.main
        assert "<form" not in made.main

    def test_each_run_with_what_is_known_of_it(self, folder):
        change(first(folder), **RUNNING)
        made = Found(list_page(Library(folder)).main)
        assert [attrs["href"] for attrs in made.all("a")] == ["run?name=second", "run?name=first"]
        for text in ("second.py", "2026-01-0", "30", " MB", "I002 unscaled-weights", "running"):
            assert text in made.said
        assert [attrs["action"] for attrs in made.all("form")] == ["compare"]

    def test_how_a_run_ended_otherwise_than_well(self, folder):
        change(first(folder), run={"exit_code": 1, "exception": "KeyError: '<x>'"})
        assert (
            "I002 unscaled-weights; ended with exit code 1 (KeyError: '<x>')"
            in Found(list_page(Library(folder)).main).said
        )
        change(first(folder), config={"select": ["G001"]})
        assert '<h1 class="bad">' in run_page(first(folder)).head
        assert "which ended with exit code 1 (KeyError" in run_page(first(folder)).head
        change(first(folder), run={"exit_code": 0, "exception": ""})
        assert '<h1 class="good">' in run_page(first(folder)).head


class TestCompare:
    def test_both_are_there(self, folder):
        change(folder / FOLDER / "second.sqlite", run={"steps": 31})
        made = compare_page("first", "second", Library(folder))
        found = Found(made.main)
        assert [attrs["href"] for attrs in found.all("a")] == ["run?name=first", "run?name=second"]
        assert found.said.count("I002 unscaled-weights") == 2
        assert re.search(r"Steps\s*30\s*31", found.said)
        table = made.numbers["charts"]["loss"]["datasets"]["rows0"]
        assert {"A first.py", "B second.py"} == set(table["names"])
        assert len(table["rows"]) == 60

    @pytest.mark.parametrize("state", ["running", "broken off"])
    def test_it_goes_on_while_one_of_them_does(self, folder, state):
        change(first(folder), **{**RUNNING, **({"process": 999_999_999} if state == "broken off" else {})})
        assert compare_page("first", "second", Library(folder)).state == state
        assert compare_page("second", "second", Library(folder)).state == "ended"

    def test_one_that_is_not_there(self, folder):
        made = compare_page("first", "third", Library(folder))
        assert "there is no stored run &#x27;third&#x27;" in made.head
