"""Who may ask: requests of this machine that know the token, and address this server by the name it has."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES = 32  # of randomness; 16 or more: https://cheatsheetseries.owasp.org, Session Management
HTTP_PORT = 80
METHODS = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every answer, also of refusals; no header allows another origin anything."""
LOST = "unstuck: this address is not one that `unstuck ui` has printed; open the one in its terminal\n"


def new_token() -> str:
    """Return a secret that may stand in an address."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class Guard:
    """Lets requests through to an application that come as they should, without the token in their path.

    The token stays in the path (`/TOKEN/run?name=...`) and is not made a cookie: a browser sends the cookies of
    127.0.0.1 to all servers of this machine, whatever their port and whoever runs them (RFC 6265, section 8.5).
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self.token = token.encode()
        self.tickets: set[bytes] = set()
        names = ("127.0.0.1", "localhost")
        self.hosts = {f"{name}:{port}".encode() for name in names}
        if port == HTTP_PORT:  # which browsers leave out
            self.hosts |= {name.encode() for name in names}

    def ticket(self) -> str:
        """Return a word that leads to the first page once: for a browser's command line, which others can read."""
        made = new_token()
        self.tickets.add(made.encode())
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        hosts = [value for name, value in scope["headers"] if name == b"host"]
        given, slash, rest = scope["path"].removeprefix("/").partition("/")
        word = given.encode("utf-8", "replace")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            await _answer(send_guarded, 421, "unstuck: this server has another name\n")
        elif scope["method"] not in METHODS:
            await _answer(send_guarded, 405, "unstuck: pages can only be read\n", [("allow", ", ".join(METHODS))])
        elif secrets.compare_digest(word, self.token) and slash:
            await self.app({**scope, "path": f"/{rest}", "raw_path": None}, receive, send_guarded)
        elif (ticket := self._ticket(word)) is not None:
            self.tickets.discard(ticket)
            query = scope["query_string"].decode("latin-1")
            where = f"/{self.token.decode()}/{rest}" + (f"?{query}" if query else "")
            await _answer(send_guarded, 303, "", [("location", where.encode("ascii", "ignore").decode())])
        else:
            await _answer(send_guarded, 403, LOST)

    def _ticket(self, word: bytes) -> bytes | None:
        return next((known for known in self.tickets if secrets.compare_digest(word, known)), None)


async def _answer(send: Send, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> None:
    body = text.encode()
    fields = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))), *headers]
    fields.append(("cache-control", "no-store"))
    coded = [(name.encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": coded})
    await send({"type": "http.response.body", "body": body})
