"""What `unstuck ui` costs while a page is open, in processor time of its process (Linux).

    python -m benchmarks.live_page [--seconds 30]

A network of three layers trains at about 100 steps a second; one reader follows a page over server-sent events.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

TRAINING = """
import pathlib, time, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(),
                          torch.nn.Linear(64, 5))
optimizer = torch.optim.SGD(net.parameters(), 0.1)
x, y = torch.randn(512, 20), torch.randint(0, 5, (512,))
while not pathlib.Path("enough").exists():
    i = torch.randint(0, 512, (64,))
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x[i]), y[i]).backward()
    optimizer.step()
    time.sleep(0.01)
"""


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def follow(address: str, path: str, seconds: float) -> list[int]:
    """Follow a page for some seconds; return the sizes of the events with a page, in bytes."""
    place, sizes = urlsplit(address), []
    connection = HTTPConnection("127.0.0.1", place.port, timeout=seconds + 30)
    connection.request("GET", f"/{place.path.split('/')[1]}/{path}")
    answer = connection.getresponse()

    def read() -> None:
        with suppress(OSError, ValueError, HTTPException):
            while line := answer.readline():
                if line.startswith(b"data: "):
                    sizes.append(len(line))

    threading.Thread(target=read, daemon=True).start()
    time.sleep(seconds)
    if connection.sock is not None:
        connection.sock.shutdown(socket.SHUT_RDWR)
    return sizes.copy()


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(TRAINING)
        unstuck = [sys.executable, "-m", "unstuck"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        training = subprocess.Popen([*unstuck, "run", "--record", "train.py"], **quiet)
        time.sleep(15)
        command = [*unstuck, "ui", "latest", "--port", "0", "--no-open"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        run = urlsplit(address).query
        try:
            for case, path in (
                ("no page is open", ""),
                ("the page of a run that trains", f"events?{run}"),
                ("the list of runs, one of which trains", "events?of=list"),
                ("the page of a run that stands still", f"events?{run}"),
            ):
                if "still" in case:
                    training.send_signal(signal.SIGSTOP)
                follow(address, path, 5.0)  # the first page loads what it needs
                before = processor_seconds(server.pid)
                sizes = follow(address, path, seconds)
                share = (processor_seconds(server.pid) - before) / seconds
                news = f"{len(sizes)} events of {max(sizes) / 1000:.0f} kB" if sizes else "no events"
                print(f"{case}: {share:.1%} of a core over {seconds:.0f} s, {news}")
        finally:
            (folder / "enough").touch()
            training.send_signal(signal.SIGCONT)
            training.wait(60)
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
