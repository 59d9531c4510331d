"""Run a program as the interpreter would: `__main__`, arguments, `sys.path`, tracebacks and exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.capture.programs import Program, ScriptError, read_script
from unstuck.capture.session import StopTraining
from unstuck.trace.ending import exception_line

__all__ = ["INTERRUPTED", "Outcome", "ScriptError", "run_program", "run_script", "stdout_to_stderr", "terminable"]

INTERRUPTED = 128 + signal.SIGINT  # as a shell reports it


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit code, whether our step limit ended it, whether an exception did.

    `exception` is that one's type and first line, `signal` the name of what ended it instead: SIGINT or SIGTERM.
    """

    exit_code: int
    stopped: bool = False
    raised: bool = False
    exception: str = field(default="", compare=False)
    signal: str = field(default="", compare=False)


def run_script(path: Path, arguments: Sequence[str]) -> Outcome:
    """Read a script and run it; raises ScriptError when there is none to read."""
    return run_program(read_script(path), arguments)


def run_program(
    program: Program,
    arguments: Sequence[str],
    *,
    restore: bool = True,
    before_exit: Callable[[int], None] | None = None,
    on_sigterm: bool = True,
) -> Outcome:
    """Execute a program in this process and say how it ended.

    An exception of the program goes to `sys.excepthook` without our frames and becomes exit code 1; `sys.exit` keeps
    its code. `sys.argv`, `sys.path` and the standard streams are put back afterwards; with `restore` so is
    `sys.modules["__main__"]`, which the program's threads and exit handlers may still need when the process ends next.
    `before_exit` is called with the exit code when the program leaves by `os._exit`, which nothing else survives.
    SIGTERM, where the program does not handle it, ends it like `sys.exit`, so that a report can follow; unless
    `on_sigterm` is false, which leaves it as it is.
    """
    with _as_main(program, arguments, restore=restore) as module, _exits(before_exit):
        try:
            with terminable() if on_sigterm else contextlib.nullcontext():
                for source in program.sources:
                    exec(source.compile(), module.__dict__)
        except StopTraining:
            return Outcome(0, stopped=True)
        except SystemExit as error:
            return Outcome(_exit_code(error), signal=signal.SIGTERM.name if isinstance(error, _TerminatedError) else "")
        except KeyboardInterrupt as error:
            _show(error, program.files)
            return Outcome(INTERRUPTED, raised=True, signal=signal.SIGINT.name)
        except BaseException as error:  # noqa: BLE001  (as the interpreter does at top level)
            _show(error, program.files)
            return Outcome(1, raised=True, exception=exception_line(error))
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stdout.flush()
    return Outcome(0)


@contextlib.contextmanager
def _as_main(program: Program, arguments: Sequence[str], *, restore: bool) -> Iterator[types.ModuleType]:
    module = types.ModuleType("__main__")
    module.__dict__.update(program.main)
    saved, search_path, main = (sys.argv, sys.stdout, sys.stderr), sys.path[:], sys.modules["__main__"]
    sys.argv = [program.argv0, *arguments]
    sys.path[:1] = [program.path0]
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.argv, sys.stdout, sys.stderr = saved
        sys.path[:] = search_path
        if restore:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _exits(before_exit: Callable[[int], None] | None) -> Iterator[None]:
    """Let `before_exit` run before `os._exit` of this process (not of processes forked from it)."""
    original, process = os._exit, os.getpid()

    def leave(status: int) -> Any:
        if before_exit is not None and os.getpid() == process:
            before_exit(status)
        original(status)

    setattr(os, "_exit", leave)  # noqa: B010  (mypy: os._exit never returns)
    try:
        yield
    finally:
        setattr(os, "_exit", original)  # noqa: B010


class _TerminatedError(SystemExit):
    """SIGTERM came."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise SystemExit, unless the program is not in the main thread or handles it already."""

    def terminate(number: int, _frame: object) -> None:
        raise _TerminatedError(128 + number)

    with _on_sigterm(terminate):
        yield


@contextlib.contextmanager
def unterminable() -> Iterator[None]:
    """Take no notice of SIGTERM, unless the program handles it, so that a report that is under way can be ended.

    A launcher sends it to all other processes as soon as one has failed. A `terminable` may be inside or around.
    """
    with _on_sigterm(_later):
        yield


def _later(_number: int, _frame: object) -> None:
    """Do nothing: a handler, since child processes would inherit SIG_IGN."""


@contextlib.contextmanager
def _on_sigterm(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    ours = before is signal.SIG_DFL or getattr(before, "__module__", None) == __name__
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handler:
            signal.signal(signal.SIGTERM, before)


def _exit_code(error: SystemExit) -> int:
    """Return the exit code of `sys.exit(...)`; a message is printed, as the interpreter does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        fits = -(1 << 31) <= error.code < 1 << 31
        return error.code & 0xFF if fits else 0xFF  # what the interpreter makes of a number beyond a C int
    print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _show(error: BaseException, files: frozenset[str]) -> None:
    """Hand the exception to `sys.excepthook`, its traceback (and those of its causes) without our own frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename not in files:
        frames = frames.tb_next
    error.__traceback__ = frames
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = _without_ours(one.__traceback__)
            chain += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    if not any(os.path.exists(file) for file in files):
        traceback.print_exception(error)  # a notebook's cells: the interpreter itself looks for source in files only
    else:
        sys.excepthook(type(error), error, error.__traceback__)


def _without_ours(frames: types.TracebackType | None) -> types.TracebackType | None:
    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep
    kept = []
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(ours):
            kept.append(frames)
        frames = frames.tb_next
    following = None
    for frame in reversed(kept):
        frame.tb_next, following = following, frame
    return following


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send everything written to standard output, by whatever means, to standard error for a while."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    stdout = sys.stdout
    try:
        os.dup2(2, 1)
        if not _is_fd(stdout, 1):
            sys.stdout = sys.stderr
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stdout = stdout
        os.dup2(saved, 1)
        os.close(saved)


def _is_fd(stream: object, number: int) -> bool:
    try:
        return isinstance(stream, io.IOBase) and stream.fileno() == number
    except (OSError, ValueError):
        return False
