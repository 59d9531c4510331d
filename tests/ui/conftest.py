"""One recorded run, the folder that is served, and a client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from unstuck.ui.app import make_app
from unstuck.ui.guard import Guard
from unstuck.ui.library import Library

from .served import HERE, PORT, place

TRAINING = """
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 5))
net[0].weight.data.mul_(20)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
x, y = torch.randn(64, 8), torch.randint(0, 5, (64,))
for _ in range(30):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()  # the line of the loss
    optimizer.step()
"""


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run with saturated units; the script is gone."""
    folder = tmp_path_factory.mktemp("recorded")
    script = folder / "train.py"
    script.write_text(TRAINING)
    command = [sys.executable, "-m", "unstuck", "run", "--save", str(folder / "out"), str(script)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120)
    script.unlink()
    return folder / "out" / "run.sqlite"


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A folder with the runs `first` and `second`."""
    for name, day in (("first", "2026-01-01"), ("second", "2026-01-02")):
        started = f"{day}T00:00:00+00:00"
        began = datetime.fromisoformat(started).timestamp()
        place(stored, tmp_path / "home", name, run={"title": f"{name}.py", "started": started}, begun=began)
    return tmp_path / "home"


@pytest.fixture
def client(folder: Path) -> TestClient:
    """Asks as one who knows the token; paths begin without a slash."""
    guard = Guard(make_app(Library(folder), asyncio.Event()), "token", PORT)
    return TestClient(guard, base_url=f"{HERE}/token/")
