"""Nothing that unstuck does by default asks for a host or opens a port: an audit hook would see it."""

import subprocess
import sys

import pytest

HOOK = """\
import sys

def audit(event, arguments):
    asking = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
    if event in (*asking, "socket.bind"):
        print("NETWORK", event, arguments[-1], flush=True)

sys.addaudithook(audit)
"""
SCRIPT = """\
import torch

w = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    (w - 1).square().sum().backward()
    optimizer.step()


def build():
    return torch.nn.Linear(3, 2), (torch.randn(8, 3), torch.randn(8, 2)), torch.nn.functional.mse_loss
"""


def printed(folder, program, *arguments):
    """What a program prints with the hook, having `arguments` for its own."""
    done = subprocess.run(
        [sys.executable, "-c", HOOK + program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("call", ["connect_ex(('127.0.0.1', 9))", "bind(('127.0.0.1', 0))"])
def test_the_hook_sees_a_connection_and_a_port(tmp_path, call):
    program = f"import socket\nsocket.socket().{call}\n"
    assert f"NETWORK socket.{call.partition('(')[0].removesuffix('_ex')}" in printed(tmp_path, program)[1]


@pytest.mark.parametrize(
    "commands",
    [
        [["run", "--record", "train.py"], ["report", "latest", "-o", "run.html"]],
        [["check", "train:build"]],
        [["rule", "L001"]],
    ],
    ids=["run and report", "check", "rule"],
)
def test_no_host_is_asked_for(tmp_path, commands):
    (tmp_path / "train.py").write_text(SCRIPT)
    for command in commands:
        code, text = printed(tmp_path, "from unstuck.cli import main\nmain()\n", *command)
        assert code == 0, text
        assert "NETWORK" not in text
