"""Run a script as `python SCRIPT ARGS…` would: `__main__`, arguments, `sys.path`, tracebacks and exit code."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unstuck.capture.session import StopTraining

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class ScriptError(ValueError):
    """The script cannot be run at all: one line saying what, where and what to do."""


@dataclass(frozen=True)
class Outcome:
    """How a script ended: its exit code, whether our step limit ended it, whether an exception did."""

    exit_code: int
    stopped: bool = False
    raised: bool = False


def read_script(path: Path) -> bytes:
    """Return the source of a script; raises ScriptError when there is none to read."""
    if path.is_dir():
        raise ScriptError(f"{path} is a folder, not a script; name a Python file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ScriptError(f"no script at {path}; check the path (now in {Path.cwd()})") from None
    except OSError as error:
        raise ScriptError(f"cannot read {path}: {error.strerror}; check its permissions") from None


def run_script(path: Path, arguments: Sequence[str]) -> Outcome:
    """Execute the script in this process and say how it ended.

    An exception of the script is shown by its own traceback on standard error and becomes exit code 1; `sys.exit`
    keeps its code. `sys.argv`, `sys.path[0]` and `sys.modules["__main__"]` are put back afterwards, except that the
    script's module stays importable as `__main__` to what still runs (threads, exit handlers).
    """
    source = read_script(path)
    with _as_main(path, arguments) as module:
        try:
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
        except StopTraining:
            return Outcome(0, stopped=True)
        except SystemExit as error:
            return Outcome(_exit_code(error))
        except KeyboardInterrupt as error:
            _show(error, path)
            return Outcome(INTERRUPTED, raised=True)
        except BaseException as error:  # noqa: BLE001  (as the interpreter does at top level)
            _show(error, path)
            return Outcome(1, raised=True)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
    return Outcome(0)


@contextlib.contextmanager
def _as_main(path: Path, arguments: Sequence[str]) -> Iterator[types.ModuleType]:
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=builtins, __spec__=None, __cached__=None)
    saved = sys.argv, sys.path[0], sys.modules["__main__"]
    sys.argv = [str(path), *arguments]
    sys.path[0] = str(path.resolve().parent)
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.argv, sys.path[0], sys.modules["__main__"] = saved


def _exit_code(error: SystemExit) -> int:
    """Return the exit code of `sys.exit(...)`; a message is printed, as the interpreter does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _show(error: BaseException, path: Path) -> None:
    """Print the traceback without our own frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != str(path):
        frames = frames.tb_next
    trace = traceback.TracebackException(type(error), error, frames)
    _without_ours(trace)
    sys.stdout.flush()
    print("".join(trace.format()), end="", file=sys.stderr)  # noqa: T201


def _without_ours(trace: traceback.TracebackException) -> None:
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep + "capture" + os.sep
    trace.stack = traceback.StackSummary.from_list([f for f in trace.stack if not f.filename.startswith(ours)])
    for chained in (trace.__cause__, trace.__context__):
        if chained is not None:
            _without_ours(chained)


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
