"""Pages that follow files: made when these have changed, seldom, and told to all who listen."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from unstuck.ui import feed as module
from unstuck.ui.feed import ALIVE_SECONDS, MOST_KEPT, SHARE, Changed, Feed, Feeds, signature
from unstuck.ui.pages import Page


class Run:
    """A run that grows when told to, and the time."""

    def __init__(self, monkeypatch) -> None:
        self.now, self.size, self.state, self.cost, self.made = 0.0, 0, "running", 0.0, 0
        self.feed = Feed(self.make, self.changed, ThreadPoolExecutor(1), clock=lambda: self.now, poll=0.001)
        spent = iter(range(10**9))
        monkeypatch.setattr(module.time, "thread_time", lambda: next(spent) % 2 * self.cost)

    def make(self) -> Page:
        self.made += 1
        return Page("", "", f"<p>{self.size}\n</p>", self.state, self.size)

    def changed(self) -> Changed:
        return Changed(str(self.size), self.state)

    async def page(self, **options) -> int:
        return (await self.feed.page(**options)).steps


@pytest.fixture
def run(monkeypatch) -> Run:
    return Run(monkeypatch)


async def next_of(stream) -> str:
    return await asyncio.wait_for(anext(stream), 10)


class TestPage:
    def test_it_is_not_made_again_while_nothing_changes(self, run):
        async def go():
            for patient in (False, True, False):
                run.now += 100
                assert await run.page(patient=patient) == 0
            assert run.made == 1
            run.size = 5
            assert await run.page() == 5

        asyncio.run(go())

    def test_readers_at_one_time_share_one_making(self, run):
        async def go():
            await asyncio.gather(*(run.page() for _ in range(5)))
            assert run.made == 1

        asyncio.run(go())

    def test_what_takes_long_is_made_seldom(self, run):
        async def go():
            run.cost = 2.0
            await run.page(patient=True)
            run.size = 7
            run.now = 2.0 / SHARE - 0.1
            assert await run.page(patient=True) == 0
            assert await run.page() == 7  # who asks for the page itself has it as it is
            run.size, run.now = 9, run.now + 2.0 / SHARE + 0.1
            assert await run.page(patient=True) == 9

        asyncio.run(go())

    def test_an_end_is_told_at_once(self, run):
        async def go():
            run.cost = 1000.0
            await run.page(patient=True)
            run.size, run.state = 8, "ended"
            assert await run.page(patient=True) == 8

        asyncio.run(go())


class TestEvents:
    def test_only_what_is_new_is_sent(self, run):
        async def go():
            known = (await run.feed.page()).version
            async with aclosing(run.feed.events(known, asyncio.Event())) as stream:
                assert await next_of(stream) == "retry: 2000\n\n"
                waiting = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0.05)
                assert not waiting.done()
                run.size = 3
                event = await asyncio.wait_for(waiting, 10)
                number, kind, data, *rest = event.split("\n")
                assert (kind, rest) == ("event: page", ["", ""])
                assert number == f"id: {(await run.feed.page()).version}" != f"id: {known}"
                assert json.loads(data.removeprefix("data: "))["main"] == "<p>3\n</p>"

        asyncio.run(go())

    def test_it_ends_with_the_run(self, run):
        async def go():
            run.state = "ended"
            events = [event async for event in run.feed.events("older", asyncio.Event())]
            assert [event.split("\n")[0][:6] for event in events] == ["retry:", f"id: {'':2}"[:4] + events[1][4:6]]
            version = (await run.feed.page()).version
            assert [event async for event in run.feed.events(version, asyncio.Event())] == ["retry: 2000\n\n"]

        asyncio.run(go())

    def test_it_ends_with_the_server(self, run):
        async def go():
            closing = asyncio.Event()
            async with aclosing(run.feed.events("", closing)) as stream:
                await next_of(stream)
                await next_of(stream)
                closing.set()
                assert await next_of(stream) == "event: closing\ndata: {}\n\n"
                with pytest.raises(StopAsyncIteration):
                    await next_of(stream)

        asyncio.run(go())

    def test_a_silent_one_says_that_it_is_there(self, run):
        async def go():
            async with aclosing(run.feed.events("", asyncio.Event())) as stream:
                await next_of(stream)
                await next_of(stream)
                run.now += ALIVE_SECONDS
                assert await next_of(stream) == ": still here\n\n"

        asyncio.run(go())


class TestSignature:
    def test_it_changes_with_a_run_and_not_by_reading_it(self, tmp_path):
        path = tmp_path / "run.sqlite"
        empty = signature([path])
        path.write_bytes(b"1")
        before = signature([path])
        assert before != empty
        (tmp_path / "run.sqlite-shm").write_bytes(b"1")  # of readers too
        assert signature([path]) == before
        (tmp_path / "run.sqlite-wal").write_bytes(b"1")
        assert signature([path]) != before


def test_only_the_latest_pages_are_kept():
    async def go():
        feeds = Feeds()
        made = [feeds.get((str(k),), Page, lambda: Changed("")) for k in range(MOST_KEPT + 1)]
        assert feeds.get((str(MOST_KEPT),), Page, lambda: Changed("")) is made[-1]
        assert feeds.get(("1",), Page, lambda: Changed("")) is made[1]
        assert feeds.get(("0",), Page, lambda: Changed("")) is not made[0]

    asyncio.run(go())
