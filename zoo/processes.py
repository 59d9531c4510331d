"""Run programs in processes of their own, several at a time; one that fails does not cost the others' results."""

import argparse
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from zoo import forked

Item = TypeVar("Item")
Result = TypeVar("Result")
INTERRUPTED = 130  # exit code, as a shell reports Ctrl-C


class ProgramError(RuntimeError):
    """A program that failed, took too long, or did not print what it should."""


class Processes:
    """Starts processes and remembers those that run, so that all can be ended at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[BaseProcess] = set()
        self._ended = False

    def run(
        self, arguments: Sequence[str], *, label: str, time_limit: float, folder: Path | None = None, ranks: int = 1
    ) -> str:
        """Run `python ARGUMENTS` and return what it prints; raises ProgramError when it fails or is too slow.

        With several `ranks`, so many processes run it together, and the first one's output counts.
        """
        processes: list[BaseProcess] = []

        def started(process: BaseProcess) -> None:
            processes.append(process)
            with self._lock:
                self._running.add(process)
                if self._ended:
                    process.kill()

        with self._lock:
            if self._ended:
                raise ProgramError(f"{label} was not started")
        try:
            done = forked.python(arguments, time_limit=time_limit, folder=folder, started=started, processes=ranks)
        finally:
            with self._lock:
                self._running.difference_update(processes)
        if done.returncode is None:
            raise ProgramError(f"{label} took longer than {time_limit:g} s")
        if done.returncode:
            raise ProgramError(f"{label} exited with {done.returncode}:\n{done.stderr.rstrip()}")
        return done.stdout

    def end(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()


def each(
    function: Callable[[Item, Processes], Result], items: Iterable[Item], jobs: int
) -> tuple[list[Result], list[str]]:
    """Call a function on each item, `jobs` at a time; return the results in order, and what went wrong with others.

    What is running is killed when anything but a ProgramError comes up, Ctrl-C above all.
    """
    results, failures, processes = [], [], Processes()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(function, item, processes) for item in items]
        try:
            for future in futures:
                try:
                    results.append(future.result())
                except ProgramError as error:
                    failures.append(str(error))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise
    return results, failures


def failed(failures: Sequence[str]) -> str:
    """Return a list, in markdown, of what went wrong."""
    blocks = [f"- {failure}".replace("\n", "\n      ") for failure in failures]
    return "\n".join(["Not measured, because the program failed:", "", *blocks])


def at_least_one(text: str) -> int:
    """Return an option's value as a number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
