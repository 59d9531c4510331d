"""Pages that follow files: made anew when a file has grown, seldom enough to leave the machine to the training."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from unstuck.trace.store import files_of
from unstuck.ui.pages import ENDED, Page

POLL_SECONDS = 1.0  # between two looks at a file's size and time
SHARE = 0.1  # of one core that an open page of a growing run may take here
ALIVE_SECONDS = 15.0  # after which a silent stream says that it is still there
MOST_KEPT = 8  # pages whose latest text is kept for the next who asks


def signature(paths: Iterable[Path]) -> str:
    """Return what changes when one of these stored runs grows, ends or goes: times and sizes of their files."""
    hashed = blake2b(digest_size=12)
    for path in paths:
        for file in files_of(path):
            try:
                known = file.stat()
            except OSError:
                continue  # gone since
            if not file.name.endswith("-shm"):  # which readers touch too
                hashed.update(f"{file}:{known.st_ino}:{known.st_size}:{known.st_mtime_ns};".encode("utf-8", "replace"))
    return hashed.hexdigest()


@dataclass(frozen=True)
class Changed:
    """What tells that a page must be made again: the `files` it is made from, and the `state` of its runs."""

    files: str
    state: str = ""


class Feed:
    """One page, made again when what it is made from has changed; any number of readers share one making."""

    def __init__(
        self,
        make: Callable[[], Page],
        changed: Callable[[], Changed],
        pool: ThreadPoolExecutor,
        *,
        clock: Callable[[], float] = time.monotonic,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._make, self._changed, self._pool, self._clock, self._poll = make, changed, pool, clock, poll
        self._page: Page | None = None
        self._known: Changed | None = None
        self._rests_until = 0.0
        self._lock = asyncio.Lock()

    async def page(self, *, patient: bool = False) -> Page:
        """Return the page as it is now; `patient`, as it was shortly before where making it takes long.

        That a run has ended is never waited for.
        """
        async with self._lock:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._pool, self._changed)
            if self._known is not None and self._page is not None:
                rests = patient and found.state == self._known.state and self._clock() < self._rests_until
                if rests or found == self._known:
                    return self._page
            begun = self._clock()
            page, seconds = await loop.run_in_executor(self._pool, self._made)
            self._page, self._known, self._rests_until = page, found, begun + seconds / SHARE
            return page

    def _made(self) -> tuple[Page, float]:
        """Return the page, and the seconds of processor time that it took."""
        begun = time.thread_time()
        page = self._make()
        version = blake2b(page.event().encode(), digest_size=12).hexdigest()
        return replace(page, version=version), time.thread_time() - begun

    async def events(self, since: str, closing: asyncio.Event) -> AsyncIterator[str]:
        """Yield server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): newer pages.

        Ends with a run that has ended, or when the server does.
        """
        yield "retry: 2000\n\n"
        said = self._clock()
        while not closing.is_set():
            page = await self.page(patient=True)
            if page.version != since:
                since, said = page.version, self._clock()
                yield f"id: {page.version}\nevent: page\ndata: {page.event()}\n\n"
            if page.state == ENDED:
                return
            if self._clock() - said >= ALIVE_SECONDS:
                said = self._clock()
                yield ": still here\n\n"
            try:
                await asyncio.wait_for(closing.wait(), self._poll)
            except TimeoutError:
                continue
        yield "event: closing\ndata: {}\n\n"


class Feeds:
    """The pages that were asked for lately."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "unstuck-ui")  # one: source lines of runs share one cache
        self._feeds: dict[tuple[str, ...], Feed] = {}

    def get(self, key: tuple[str, ...], make: Callable[[], Page], changed: Callable[[], Changed]) -> Feed:
        """Return the feed of a key; made of these functions where there is none."""
        feed = self._feeds.pop(key, None) or Feed(make, changed, self._pool)
        self._feeds[key] = feed  # the latest stands last
        while len(self._feeds) > MOST_KEPT:
            del self._feeds[next(iter(self._feeds))]
        return feed
