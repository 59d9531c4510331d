"""Python in processes forked from one that has torch and unstuck imported: starting anew takes 2.7 s of CPU each."""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["unstuck.cli", "unstuck.stats.cpu", "unstuck.capture.probes", "unstuck.fixes.scripts"])


class Done(NamedTuple):
    """How a process ended (None: it took too long and was killed), and what it wrote."""

    returncode: int | None
    stdout: str
    stderr: str


def python(
    arguments: Sequence[str],
    *,
    time_limit: float | None = None,
    folder: Path | None = None,
    started: Callable[[BaseProcess], None] = lambda _: None,
    processes: int = 1,
) -> Done:
    """Do what `python ARGUMENTS` does, a script or `-m MODULE`, on one thread, in a folder; `started` is told of it.

    With several `processes` do what `torchrun` does with so many, and return what the first one wrote, and how it
    ended, or another one that failed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # the first call starts the process that all others are forked from
    with tempfile.TemporaryDirectory() as place:
        running, files = [], []
        for rank, environment in enumerate(_ranks(processes)):
            own = [Path(place) / f"{name}{rank}" for name in ("out", "err")]
            where = str(folder or Path.cwd())
            process = CONTEXT.Process(
                target=_python, args=(list(arguments), *map(str, own), where, environment), daemon=False
            )
            process.start()
            started(process)
            running.append(process)
            files.append(own)
        codes = _ended(running, time_limit)
        failed = next((rank for rank, code in enumerate(codes) if code), 0)
        texts = [file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in files[failed]]
        return Done(codes[failed] if None not in codes else None, *texts)


def _ranks(processes: int) -> list[dict[str, str]]:
    """Return the environment of each process, by the names that `torchrun` uses; of a single one, nothing."""
    if processes == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    size = str(processes)
    return [
        {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        for rank in range(processes)
    ]


def _ended(running: list[BaseProcess], time_limit: float | None) -> list[int | None]:
    """Wait for processes, all of them within the limit; return their exit codes, None for those that were killed."""
    deadline = None if time_limit is None else time.monotonic() + time_limit
    codes: list[int | None] = []
    for process in running:
        process.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        if process.exitcode != 0:
            break  # the others would wait for it
    for process in running:
        if process.is_alive():
            process.kill()
            process.join()
    return codes


def _python(arguments: list[str], out: str, err: str, folder: str, environment: dict[str, str]) -> None:
    """Be the process: write to the files, and run what was asked for."""
    os.environ.update(environment)
    for file, descriptor in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(folder)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")
