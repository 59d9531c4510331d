"""Who may ask: each refusal has a test that fails without it."""

from __future__ import annotations

import asyncio
import base64
import secrets

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from unstuck.ui.guard import Guard, new_token

from .served import HERE, PORT

TOKEN = "a-token"
OTHER_METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")


async def echo(scope, receive, send):
    await PlainTextResponse(f"{scope['path']}?{scope['query_string'].decode()}")(scope, receive, send)


@pytest.fixture
def guard() -> Guard:
    return Guard(echo, TOKEN, PORT)


@pytest.fixture
def client(guard) -> TestClient:
    return TestClient(guard, base_url=HERE, follow_redirects=False)


def raw(guard: Guard, headers: list[tuple[bytes, bytes]]) -> int:
    """Return the status of a request with exactly these headers."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"/{TOKEN}/", "query_string": b"", "headers": headers}
    asyncio.run(guard(scope, None, send))
    return sent[0]["status"]


class TestToken:
    @pytest.mark.parametrize(
        "path",
        [
            *("/", "", "//", f"/{TOKEN}", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"/{TOKEN.upper()}/", f"//{TOKEN}/", "/é/"),
            *(f"/run/{TOKEN}/", f"/?token={TOKEN}", f"/x/../{TOKEN}x/", "/assets/page.js"),
        ],
    )
    def test_without_it_nothing_is_answered(self, client, path):
        answer = client.get(path)
        assert answer.status_code == 403
        assert answer.text.startswith("unstuck: this address is not one that `unstuck ui` has printed")

    def test_a_cookie_or_a_header_is_no_token(self, client):
        for headers in ({"cookie": f"token={TOKEN}"}, {"authorization": f"Bearer {TOKEN}"}, {"x-token": TOKEN}):
            assert client.get("/", headers=headers).status_code == 403

    def test_with_it_the_rest_of_the_path_is_asked_for(self, client):
        assert client.get(f"/{TOKEN}/run?name=a%20b").text == "/run?name=a%20b"
        assert client.head(f"/{TOKEN}/").status_code == 200

    def test_it_is_compared_in_constant_time(self, client, monkeypatch):
        compared = []
        monkeypatch.setattr(secrets, "compare_digest", lambda a, b: compared.append((a, b)) or False)
        assert client.get(f"/{TOKEN}/").status_code == 403
        assert compared == [(TOKEN.encode(), TOKEN.encode())]

    def test_it_cannot_be_guessed(self):
        made = {new_token() for _ in range(100)}
        assert len(made) == 100
        assert all(len(base64.urlsafe_b64decode(f"{token}==")) * 8 >= 128 for token in made)

    def test_none_is_given_away(self, client):
        assert "set-cookie" not in client.get(f"/{TOKEN}/").headers
        assert TOKEN not in client.get("/").text


class TestTicket:
    def test_it_leads_to_the_page_once(self, guard, client):
        word = guard.ticket()
        assert word != TOKEN
        answer = client.get(f"/{word}/run?name=a%20b")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/{TOKEN}/run?name=a%20b")
        assert client.get(f"/{word}/run?name=a%20b").status_code == 403

    def test_another_host_does_not_use_it_up(self, guard, client):
        word = guard.ticket()
        assert client.get(f"/{word}/", headers={"host": "evil.example:6076"}).status_code == 421
        assert client.get(f"/{word}/").status_code == 303


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{PORT}", ""),
            *(f"127.0.0.2:{PORT}", f"0.0.0.0:{PORT}", f"[::1]:{PORT}", f"localhost.:{PORT}", f"x@localhost:{PORT}"),
        ],
    )
    def test_another_name_is_refused(self, client, host):
        assert client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 421

    def test_none_or_two_are_refused(self, guard):
        good = (b"host", f"localhost:{PORT}".encode())
        assert raw(guard, [good]) == 200
        assert raw(guard, []) == raw(guard, [good, good]) == raw(guard, [good, (b"host", b"evil.example")]) == 421

    @pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LocalHost:{PORT}"])
    def test_its_own_names(self, client, host):
        assert client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 200

    def test_the_port_that_browsers_leave_out(self):
        assert raw(Guard(echo, TOKEN, 80), [(b"host", b"localhost")]) == 200


class TestMethods:
    @pytest.mark.parametrize("method", OTHER_METHODS)
    def test_pages_can_only_be_read(self, client, method):
        answer = client.request(method, f"/{TOKEN}/")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")

    def test_sockets_are_not_answered(self, guard):
        async def never(_):
            raise AssertionError

        asyncio.run(guard({"type": "websocket", "path": f"/{TOKEN}/", "headers": []}, None, never))


class TestHeaders:
    @pytest.fixture(params=[f"/{TOKEN}/", "/", f"/{TOKEN}/none"])
    def headers(self, client, request):
        return client.get(request.param, headers={"origin": "http://evil.example"}).headers

    def test_nothing_is_allowed_to_other_origins(self, headers, client):
        preflight = {"origin": "http://evil.example", "access-control-request-method": "GET"}
        asked = client.options(f"/{TOKEN}/", headers=preflight).headers
        assert [name for name in [*headers, *asked] if name.startswith("access-control")] == []
        assert headers["cross-origin-resource-policy"] == "same-origin"

    def test_the_policy_allows_files_of_this_server_alone(self, headers):
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["form-action"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]

    def test_nothing_is_guessed_told_or_framed(self, headers):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
