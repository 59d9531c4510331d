"""A real server: where it listens, events while a file grows, the end by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest

from unstuck.capture.script import INTERRUPTED
from unstuck.trace.folder import FOLDER
from unstuck.ui import server
from unstuck.ui.server import listen

from .served import RUNNING, change, contents

WAIT = 60  # seconds, of a busy machine


class TestListen:
    def test_on_this_machine_alone(self):
        with closing(listen(0)) as made:
            assert made.getsockname()[0] == "127.0.0.1"

    def test_a_port_in_use_leads_to_the_next(self):
        with closing(listen(0)) as one:
            port = one.getsockname()[1]
            with closing(listen(port)) as other:
                assert port < other.getsockname()[1] <= port + server.MORE_PORTS

    def test_none_is_free(self, monkeypatch):
        monkeypatch.setattr(server, "MORE_PORTS", 0)
        with closing(listen(0)) as one, pytest.raises(OSError, match="are all in use"):
            listen(one.getsockname()[1])

    def test_what_else_goes_wrong_is_not_taken_for_that(self, monkeypatch):
        tried = []
        monkeypatch.setattr(socket.socket, "bind", lambda _, address: tried.append(address) or self.refuse())
        with pytest.raises(PermissionError):
            listen(80)
        assert tried == [("127.0.0.1", 80)]

    def refuse(self):
        raise PermissionError(13, "Permission denied")


class Served:
    """`unstuck ui` in a process of its own."""

    def __init__(self, folder, *arguments: str) -> None:
        command = [sys.executable, "-m", "unstuck", "ui", *arguments, "--no-open", "--port", "0"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=folder, text=True, env=environment, **pipes)
        assert self.process.stdout is not None
        self.address = urlsplit(self.process.stdout.readline().strip())

    def get(self, path: str) -> tuple[HTTPConnection, HTTPResponse]:
        token = self.address.path.split("/")[1]
        connection = HTTPConnection("127.0.0.1", self.address.port, timeout=WAIT)
        connection.request("GET", f"/{token}/{path}")
        return connection, connection.getresponse()

    def end(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=WAIT)
        return self.process.returncode, said


@pytest.fixture
def served(folder) -> Iterator[Served]:
    change(folder / FOLDER / "first.sqlite", **RUNNING)
    made = Served(folder, "first")
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def event(answer: HTTPResponse) -> str:
    """Return the next event of a stream."""
    lines = []
    while line := answer.readline().decode().rstrip("\n"):
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_growing_run_is_followed_until_the_server_ends(served, folder):
    assert re.fullmatch(r"/[\w-]{43}/run", served.address.path)
    assert served.address.query == "name=first"
    connection, page = served.get("run?name=first")
    assert "Running · 30 steps" in page.read().decode()
    connection.close()

    before = contents(folder)
    connection, stream = served.get("events?name=first")
    assert event(stream) == "retry: 2000"
    assert '"said":"Running \\u00b7 30 steps"' in event(stream)
    assert contents(folder) == before
    change(folder / FOLDER / "first.sqlite", run={"steps": 31})
    assert '"said":"Running \\u00b7 31 steps"' in event(stream)

    begun = time.monotonic()
    code, said = served.end()
    assert event(stream) == "event: closing\ndata: {}"
    assert stream.read() == b""
    connection.close()
    assert (code, said.splitlines()[-1]) == (INTERRUPTED, "unstuck: ended")
    assert "Traceback" not in said
    assert time.monotonic() - begun < WAIT
