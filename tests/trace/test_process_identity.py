"""Which process is which."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from unstuck.trace import processes
from unstuck.trace.processes import GONE, birth, lives

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells when a process began")
ANY = pytest.mark.skipif(os.name == "nt", reason="whether a process exists is not asked there")


@pytest.fixture
def sleeping():
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


@ANY
@pytest.mark.parametrize("process", [None, "7", 0, -1, 999_999_999, 1 << 80])
def test_what_is_no_process(process):
    assert lives(process) is False
    assert lives(process, "some time") is False


def test_where_the_system_does_not_tell_it_is_open(monkeypatch):
    monkeypatch.setattr(processes, "birth", lambda _: "")
    assert lives(os.getpid()) is lives(os.getpid(), "some time") is None


@LINUX
def test_this_process():
    assert lives(os.getpid(), birth(os.getpid())) is True
    assert lives(os.getpid()) is None
    assert birth(os.getpid()) == birth(os.getpid())


@LINUX
def test_another_one(sleeping):
    """It began seconds after this one; the clock ticks a hundred times a second."""
    assert lives(sleeping.pid, birth(sleeping.pid)) is True
    assert lives(sleeping.pid, birth(os.getpid())) is False


@LINUX
def test_a_name_with_brackets_and_blanks_is_not_mistaken(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as child:
        try:
            boot, ticks = birth(child.pid).split()
            assert int(ticks) > 0
            assert boot == birth(os.getpid()).split()[0]
        finally:
            child.kill()


@LINUX
def test_one_that_has_ended_but_was_not_waited_for():
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert birth(child.pid) == GONE
        assert lives(child.pid, "some time") is lives(child.pid) is False
    finally:
        child.communicate()
