"""The addresses, through the guard: what each answers, and that nothing is written."""

from __future__ import annotations

import json

import pytest

from unstuck.trace.folder import FOLDER
from unstuck.ui.app import ASSETS

from .served import HERE, RUNNING, change, contents, place

PLACES = ("", "run?name=first", "compare?a=first&b=second", "compare", "events?name=first", "assets/page.js")


class TestRefused:
    @pytest.mark.parametrize(
        "path",
        [
            *(
                "run?name=third",
                "run",
                "run?name=",
                "run?name=../first",
                "run?name=%2Fetc%2Fpasswd",
                "events?name=third",
            ),
            *("run?name=first.sqlite", "run?name=..%2F..%2Felsewhere%2Fsecret", "compare?a=first&b=..%2Fx"),
            *("run/first", "first.sqlite", ".unstuck/runs/first.sqlite", "docs", "openapi.json"),
        ],
    )
    def test_what_is_not_there(self, client, stored, tmp_path, path):
        place(stored, tmp_path / "elsewhere", "secret", run={"title": "secret.py"})
        answer = client.get(path)
        assert answer.status_code == 404
        assert "secret.py" not in answer.text

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("compare?a=first", "the address does not name the run b="),
            ("compare?b=first", "the address does not name the run a="),
            ("compare?a=third", "the address does not name the run b="),
            ("compare?a=first&b=third", "there is no stored run &#x27;third&#x27; in "),
            ("compare?a=%3Cb%3E&b=first", "there is no stored run &#x27;&lt;b&gt;&#x27; in "),
            ("run?name=third", "there is no stored run &#x27;third&#x27; in "),
            ("run", "the address names no run"),
        ],
    )
    def test_a_page_says_what_is_not_there_and_offers_what_is(self, client, path, said):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert said in answer.text
        assert '<option value="first"' in answer.text
        assert "Two runs side by side" not in answer.text

    @pytest.mark.parametrize(
        "name", ["../app.py", "..%2Fapp.py", "%2e%2e/app.py", "icon.svg/", "Page.js", "page.css.bak", "/etc/passwd"]
    )
    def test_only_known_files_are_served(self, client, name):
        answer = client.get(f"assets/{name}", follow_redirects=False)
        assert answer.status_code in (404, 307)
        assert "import" not in answer.text

    def test_every_address_wants_the_token_and_the_host(self, client):
        for path in PLACES:
            assert client.get(path).status_code == 200
            assert client.get(f"{HERE}/{path}").status_code == 403
            assert client.get(path, headers={"host": "evil.example"}).status_code == 421
            assert client.post(path).status_code == 405


class TestPages:
    def test_kinds_and_headers(self, client):
        for path in PLACES:
            answer = client.get(path)
            assert "'unsafe" not in answer.headers["content-security-policy"]
            assert not [name for name in answer.headers if name.startswith("access-control")]
            if not path.startswith("assets"):
                assert answer.headers["cache-control"] == "no-store"
        assert client.get("events?name=first").headers["content-type"].startswith("text/event-stream")

    def test_the_latest_two_are_compared_where_none_are_named(self, client):
        assert "A: first and B: second" in client.get("compare").text

    def test_one_run_is_compared_with_itself_and_none_is_refused(self, client, folder):
        (folder / FOLDER / "second.sqlite").unlink()
        assert "A: first and B: first" in client.get("compare").text
        (folder / FOLDER / "first.sqlite").unlink()
        assert client.get("compare").status_code == 404

    def test_a_page_is_as_new_as_its_file(self, client, folder):
        path = folder / FOLDER / "first.sqlite"
        change(path, run={"steps": 30}, **RUNNING)
        assert "Running · 30 steps" in client.get("run?name=first").text
        change(path, run={"steps": 47})
        assert "Running · 47 steps" in client.get("run?name=first").text

    @pytest.mark.parametrize("name", ASSETS)
    def test_files(self, client, name):
        answer = client.get(f"assets/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(ASSETS[name][0])
        assert len(answer.text) > 100

    def test_names_of_any_kind_lead_to_their_runs(self, client, folder, stored):
        name = "a&b=c#d +é%2F"
        place(stored, folder, name, run={"title": "odd.py"})
        address = next(
            part.split('"')[0]
            for part in client.get("").text.split('href="')
            if "odd" not in part[:3] and part.startswith("run?name=a%26")
        )
        assert "odd.py" in client.get(address.replace("&amp;", "&")).text


class TestEvents:
    def test_the_page_of_a_run_that_has_ended(self, client):
        retry, event = client.get("events?name=first&since=older").text.split("\n\n")[:2]
        assert retry == "retry: 2000"
        assert json.loads(event.split("data: ")[1])["said"] == "Ended · 30 steps"

    def test_one_that_has_the_page_is_not_sent_it_again(self, client):
        event = client.get("events?name=first").text.split("\n\n")[1]
        version = event.split("\n")[0].removeprefix("id: ")
        assert client.get(f"events?name=first&since={version}").text == "retry: 2000\n\n"
        headers = {"last-event-id": version}  # of a browser that connects again; newer than its address
        assert client.get("events?name=first&since=older", headers=headers).text == "retry: 2000\n\n"

    def test_a_head_request_has_an_end(self, client):
        assert client.head("events?of=list").status_code == 200


def test_nothing_is_written(client, folder):
    change(folder / FOLDER / "second.sqlite", **RUNNING)
    before = contents(folder)
    for path in ("", "run?name=first", "run?name=second", "compare?a=first&b=second", "events?name=first"):
        assert client.get(path).status_code == 200
    assert contents(folder) == before
