"""What tests of several rooms share."""

from __future__ import annotations

import io
import linecache
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest
from hypothesis import settings

from slow import pytest_addoption, pytest_collection_modifyitems  # noqa: F401  (hooks, found here by their names)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a shell without job control
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # processes that tests start have the system's default then
os.environ["UNSTUCK_RECORD"] = "0"  # runs are kept where a test is about that, and nowhere else

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TINY_TRAINING = """
    import torch

    print("before training")
    g = torch.Generator().manual_seed(1)
    w = torch.zeros(4, 1, requires_grad=True)
    x = torch.randn(32, 4, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    for step in range(12):
        loss = torch.nn.functional.mse_loss(x @ w, y)
        w.grad = None
        loss.backward()
        w.data -= 0.1 * w.grad
    print("steps done:", step + 1)
"""
"""A healthy script of twelve updates: linear regression by hand."""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Write a Python file into `tmp_path`; the text is de-indented."""

    def write(text: str | bytes = TINY_TRAINING, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).lstrip("\n").encode())
        return path

    return write


@dataclass(frozen=True)
class Said:
    """What a command left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of an error of ours, which ends the command with exit code 2 before anything is printed."""
        assert (self.code, self.out) == (2, ""), self
        (line,) = self.err.splitlines()
        return line.removeprefix("unstuck: ")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run the `unstuck` command in this process, through its entry point."""

    def run(*arguments: object) -> Said:
        from unstuck.cli import main

        monkeypatch.setattr("sys.argv", ["unstuck", *map(str, arguments)])
        monkeypatch.setattr(sys.modules["__main__"], "__package__", "")  # the program's name is not `python -m pytest`
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # `run` leaves the script's own there
        monkeypatch.setenv("COLUMNS", "100")
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let the runs that `unstuck fix` starts happen in this process, which has torch already; the commands, as a list.

    Modules that a script imports from its own folder are forgotten again.
    """
    from unstuck import cli
    from unstuck.fixes import scripts

    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "unstuck"]
        commands.append(command[3:])
        out, err, known, code = io.StringIO(), io.StringIO(), set(sys.modules), 0
        with monkeypatch.context() as here, redirect_stdout(out), redirect_stderr(err):
            here.setattr(sys, "argv", ["unstuck", *command[3:]])
            here.setitem(sys.modules, "__main__", sys.modules["__main__"])
            try:
                cli.main()
            except SystemExit as left:
                code = int(left.code or 0)
        script = command[command.index("--", 3) + 1]
        linecache.cache.pop(os.path.abspath(script), None)
        folder = os.path.dirname(os.path.abspath(script))
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(folder):
                del sys.modules[name]
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(scripts, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
    return commands
