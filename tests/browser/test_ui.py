"""`unstuck ui` in a browser: pages that grow with a training, two runs side by side, what happens to the connection."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ui.conftest import folder, stored  # noqa: F401  (fixtures)
from ui.served import RUNNING, change
from unstuck.runs import FOLDER, listed

from .conftest import Visit

TRAINING = """
import pathlib, time, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))
net[0].weight.data.mul_(20)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
x, y = torch.randn(64, 8), torch.randint(0, 5, (64,))
while not pathlib.Path("enough").exists():
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    time.sleep(0.01)
"""
SERVER = """
import sys
from pathlib import Path
from unstuck.ui.library import Library
from unstuck.ui.server import Server
server = Server(Library(Path(sys.argv[1])), int(sys.argv[2]))
server.guard.token = b"the-same-token"
print(server.port, flush=True)
server.serve()
"""
WAIT = 60.0  # seconds, of a busy machine


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python with these arguments; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: object, cwd: Path, said: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(command, cwd=cwd, stdout=said, stderr=subprocess.DEVNULL, text=True, env=environment)
        )
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def steps(made: Visit) -> int:
    return int(re.sub(r"\D", "", made.page.locator("#said").inner_text()))


def wait_for_more(made: Visit, than: int) -> int:
    """Wait until the page tells of more steps; return how many."""
    until = time.monotonic() + WAIT
    while steps(made) <= than:
        assert time.monotonic() < until, made.said
        made.page.wait_for_timeout(100)
    return steps(made)


def picture(made: Visit, place: str) -> str:
    return str(made.page.locator(f"{place} canvas").first.evaluate("(one) => one.toDataURL()"))


@pytest.mark.slow
def test_a_page_grows_with_its_run(visit, start, tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)
    training = start("-m", "unstuck", "run", "--record", "train.py", cwd=tmp_path, said=subprocess.DEVNULL)
    until = time.monotonic() + WAIT
    while not any(run.steps > 10 for run in listed(tmp_path)):
        assert time.monotonic() < until
        time.sleep(0.1)
    address = line(start("-m", "unstuck", "ui", "latest", "--port", "0", "--no-open", cwd=tmp_path))
    made = visit(address, offline=False, height=700)
    page = made.page
    expect(page.locator("#said")).to_contain_text("Running")
    page.locator("#loss").scroll_into_view_if_needed()
    page.locator("#loss canvas").wait_for()
    loss = picture(made, "#loss")
    page.locator("#gradients summary").first.click()  # closed
    page.locator("#activations").scroll_into_view_if_needed()
    page.locator("#activations canvas").first.wait_for()
    page.locator("#activations input").fill("3")
    page.locator("#search").fill("1 (")
    page.locator("#activations input").focus()
    page.evaluate("scrollTo(0, document.getElementById('activations').offsetTop - 100)")
    top = "Math.round(document.getElementById('activations').getBoundingClientRect().top)"
    place = made.value(top)

    seen = wait_for_more(made, wait_for_more(made, steps(made)))
    assert page.locator("h1").inner_text().startswith("1 root cause")
    assert page.locator("#activations output").inner_text() == "step 3"
    assert made.value("document.activeElement.type") == "range"
    assert page.locator("#gradients").get_attribute("open") is None
    assert page.locator("#search").input_value() == "1 ("
    assert page.locator("#found").inner_text().startswith("2 of ")
    assert abs(made.value(top) - place) <= 1
    page.locator("#loss").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    assert picture(made, "#loss") != loss

    (tmp_path / "enough").touch()
    training.wait(WAIT)
    expect(page.locator("#said")).to_contain_text("Ended", timeout=WAIT * 1000)
    assert steps(made) > seen
    assert page.locator("#connection").inner_text() == ""
    assert made.said == []  # no violation of the policy either
    assert all(asked.startswith(address.split("run?")[0]) for asked in made.asked)
    assert len([asked for asked in made.asked if "events" in asked]) == 1


class TestConnection:
    def test_a_lost_one_is_told_and_made_again(self, visit, start, folder):  # noqa: F811
        path = folder / FOLDER / "first.sqlite"
        change(path, **RUNNING)
        server = start("-c", SERVER, folder, 0, cwd=folder)
        port = line(server)
        made = visit(f"http://127.0.0.1:{port}/the-same-token/run?name=first", offline=False)
        expect(made.page.locator("#said")).to_have_text("Running · 30 steps")
        server.kill()
        expect(made.page.locator("#connection")).to_have_text("The connection is lost; trying again")
        change(path, run={"steps": 31})
        assert line(start("-c", SERVER, folder, port, cwd=folder)) == port
        expect(made.page.locator("#said")).to_have_text("Running · 31 steps", timeout=WAIT * 1000)
        expect(made.page.locator("#connection")).to_have_text("")

    @pytest.mark.slow
    def test_the_end_of_the_server_is_told(self, visit, start, folder):  # noqa: F811
        change(folder / FOLDER / "first.sqlite", **RUNNING)
        server = start("-m", "unstuck", "ui", "first", "--port", "0", "--no-open", cwd=folder)
        made = visit(line(server), offline=False)
        expect(made.page.locator("#said")).to_have_text("Running · 30 steps")
        server.send_signal(signal.SIGINT)
        expect(made.page.locator("#connection")).to_have_text("unstuck ui was ended; this is what it had seen")
        made.page.wait_for_timeout(2500)  # longer than it waits to connect again
        assert len([asked for asked in made.asked if "events" in asked]) == 1
        assert made.said == []


@pytest.fixture
def address(start, folder) -> str:  # noqa: F811
    return line(start("-m", "unstuck", "ui", "--port", "0", "--no-open", cwd=folder))


class TestPages:
    @pytest.mark.slow
    @pytest.mark.parametrize(("width", "scheme"), [(380, "light"), (800, "dark"), (1400, "light")])
    def test_nothing_sticks_out_and_nothing_is_said(self, visit, address, width, scheme):
        for path in ("", "compare", "run?name=first"):
            made = visit(address + path, offline=False, width=width, scheme=scheme)
            assert made.draw_all() > 0 or path == ""
            assert made.overflow <= 0
            assert made.said == []

    def test_from_the_list_to_two_side_by_side(self, visit, address):
        made = visit(address, offline=False)
        assert made.page.locator(".runs tbody th").all_inner_texts() == ["second", "first"]
        made.page.locator("form button").click()
        expect(made.page.locator("h1")).to_have_text("Two runs side by side")
        made.page.locator("#loss canvas").wait_for()
        first, second = (made.page.locator(".both > div").nth(k).bounding_box() for k in (0, 1))
        assert first["y"] == second["y"]
        assert first["x"] + first["width"] <= second["x"]
        made.page.set_viewport_size({"width": 380, "height": 800})
        first, second = (made.page.locator(".both > div").nth(k).bounding_box() for k in (0, 1))
        assert first["y"] + first["height"] <= second["y"]
        made.page.locator(".both a").first.click()
        expect(made.page.locator("#said")).to_have_text("Ended · 30 steps")
        assert made.said == []

    def test_the_list_grows(self, visit, address, folder):  # noqa: F811
        made = visit(address, offline=False)
        (folder / FOLDER / "third.sqlite").write_bytes((folder / FOLDER / "first.sqlite").read_bytes())
        expect(made.page.locator(".runs tbody tr")).to_have_count(3, timeout=WAIT * 1000)
        expect(made.page.locator("h1")).to_have_text("3 runs")
        assert made.said == []
