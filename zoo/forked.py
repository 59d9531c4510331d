"""Python in processes forked from one that has torch and unstuck imported: starting anew takes 2.7 s of CPU each."""

import multiprocessing
import os
import runpy
import sys
import tempfile
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
) -> Done:
    """Do what `python ARGUMENTS` does, a script or `-m MODULE`, on one thread, in a folder; `started` is told of it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the first call starts the process that all others are forked from
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("out", "err")]
        process = CONTEXT.Process(
            target=_python, args=(list(arguments), *map(str, files), str(folder or Path.cwd())), daemon=False
        )
        process.start()
        started(process)
        process.join(time_limit)
        too_long = process.is_alive()
        if too_long:
            process.kill()
            process.join()
        texts = [file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in files]
        return Done(None if too_long else process.exitcode, *texts)


def _python(arguments: list[str], out: str, err: str, folder: str) -> None:
    """Be the process: write to the files, and run what was asked for."""
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
