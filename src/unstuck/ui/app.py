"""The addresses: `/` the runs, `/run?name=`, `/compare?a=&b=`, `/events?...` news of each, `/assets/` their files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from unstuck.report import html
from unstuck.trace.folder import state_of
from unstuck.trace.store import StoreError, read_info
from unstuck.ui.feed import Changed, Feed, Feeds, signature
from unstuck.ui.library import Library
from unstuck.ui.pages import compare_page, document, list_page, no_run_page, run_page

NO_STORE = {"cache-control": "no-store"}
LOOK_SECONDS = 30.0  # between two looks at which runs still have a process
MADE = {"cache-control": "private, max-age=86400, immutable"}  # for this token's addresses alone
ASSETS: dict[str, tuple[str, Callable[[], str]]] = {
    "vega.js": ("text/javascript", html.library),
    "page.js": ("text/javascript", partial(html.asset, "page.js")),
    "page.css": ("text/css", partial(html.asset, "page.css")),
    "live.js": ("text/javascript", lambda: _own("live.js")),
    "live.css": ("text/css", lambda: _own("live.css")),
    "icon.svg": ("image/svg+xml", lambda: _own("icon.svg")),
}
"""The only files that are served, by their names."""


NONE_NAMED = {
    "run": "the address names no run; the list has them all",
    "compare": "the address does not name the run {}=; choose two below, where there are any",
}


class NoRunError(LookupError):
    """There is no such run; the text says so."""


class Pages:
    """Answers requests about the runs of a library, until `closing` is set."""

    def __init__(self, library: Library, closing: asyncio.Event) -> None:
        self.library, self.closing = library, closing
        self.feeds = Feeds()

    async def runs(self, _: Request) -> Response:
        """The list of runs."""
        page = await self._feed({}).page()
        return HTMLResponse(document(page, "events?of=list", at="list"), headers=NO_STORE)

    async def run(self, request: Request) -> Response:
        """One run."""
        return await self._answer(request, ("name",), "run")

    async def compare(self, request: Request) -> Response:
        """Two runs side by side; without names, the latest two."""
        return await self._answer(request, ("a", "b"), "compare")

    async def events(self, request: Request) -> Response:
        """What is new on a page, as a stream of events."""
        asked = dict(request.query_params)
        since = request.headers.get("last-event-id") or asked.pop("since", "")
        try:
            feed = self._feed(asked)
        except NoRunError as error:
            return _refusal(error)
        stream: AsyncIterator[str] = feed.events(since, self.closing)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=NO_STORE)
        return StreamingResponse(stream, media_type="text/event-stream", headers=NO_STORE)

    async def asset(self, request: Request) -> Response:
        """A file of the pages."""
        known = ASSETS.get(request.path_params["file"])
        if known is None:
            return PlainTextResponse("unstuck: there is no such file\n", 404)
        return Response(await run_in_threadpool(known[1]), media_type=known[0], headers=MADE)

    async def _answer(self, request: Request, wanted: tuple[str, ...], at: str) -> Response:
        asked = {key: request.query_params[key] for key in wanted if key in request.query_params}
        if at == "compare" and not asked:
            latest = [name for name, run in self.library.listed() if name and not run.trouble]
            asked = dict(zip(wanted, reversed((latest * 2)[:2]), strict=False))
        try:
            lacking = [key for key in wanted if key not in asked]
            if lacking:
                raise NoRunError(NONE_NAMED[at].format(*lacking))
            feed = self._feed(asked)
        except NoRunError as error:
            page = await run_in_threadpool(no_run_page, str(error), self.library, asked)
            return HTMLResponse(document(page, "events?of=list", at=at), 404, headers=NO_STORE)
        page = await feed.page()
        return HTMLResponse(document(page, f"events?{urlencode(asked)}", at=at), headers=NO_STORE)

    def _feed(self, asked: dict[str, Any]) -> Feed:
        """Return the feed of the page that is asked for; raises NoRunError."""
        library = self.library
        if "name" in asked:
            path = self._path(asked["name"])
            return self.feeds.get(("run", str(path)), partial(run_page, path), partial(_changed, (path,)))
        if "a" in asked and "b" in asked:
            pair = (self._path(asked["a"]), self._path(asked["b"]))
            make = partial(compare_page, asked["a"], asked["b"], library)
            return self.feeds.get(("compare", asked["a"], asked["b"]), make, partial(_changed, pair))
        return self.feeds.get(("list",), partial(list_page, library), lambda: _all_changed(library))

    def _path(self, name: str) -> Path:
        path = self.library.path(name)
        if path is None:
            raise NoRunError(f"there is no stored run {name[:200]!r} in {self.library.folder}; the list has them all")
        return path


def make_app(library: Library, closing: asyncio.Event) -> Starlette:
    """Return the application, which must stand behind a `Guard`; its streams end when `closing` is set."""
    pages = Pages(library, closing)
    routes = {
        "/": pages.runs,
        "/run": pages.run,
        "/compare": pages.compare,
        "/events": pages.events,
        "/assets/{file}": pages.asset,
    }
    return Starlette(routes=[Route(path, answer, methods=["GET"]) for path, answer in routes.items()])


def _refusal(error: Exception) -> Response:
    return PlainTextResponse(f"unstuck: {error}\n", 404, headers=NO_STORE)


def _own(name: str) -> str:
    return (files("unstuck.ui") / "assets" / name).read_text(encoding="utf-8")


def _changed(paths: tuple[Path, ...]) -> Changed:
    """Return what changes when these runs grow or their processes go."""
    files = signature(paths)
    return Changed(files, " ".join(map(_state, paths)))


def _state(path: Path) -> str:
    try:
        return state_of(path, read_info(path))
    except StoreError:
        return ""


def _all_changed(library: Library) -> Changed:
    looked_at = int(time.monotonic() / LOOK_SECONDS)  # a process that goes changes no file
    return Changed(f"{signature(library.paths().values())} {looked_at}")
