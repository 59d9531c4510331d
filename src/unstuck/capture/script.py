"""Run a script as `python SCRIPT ARGS…` would: `__main__`, arguments, `sys.path`, tracebacks and exit code."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
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
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise ScriptError(f"{path} is a folder, not a script; name a Python file") from None
    except FileNotFoundError:
        raise ScriptError(f"no script at {path}; check the path (now in {Path.cwd()})") from None
    except OSError as error:
        raise ScriptError(f"cannot read {path}: {error.strerror}; check its permissions") from None


def run_script(path: Path, arguments: Sequence[str], *, restore: bool = True) -> Outcome:
    """Execute the script in this process and say how it ended.

    An exception of the script goes to `sys.excepthook` without our frames and becomes exit code 1; `sys.exit` keeps its
    code. `sys.argv`, `sys.path` and the standard streams are put back afterwards; with `restore` so is
    `sys.modules["__main__"]`, which the script's threads and exit handlers may still need when the process ends next.
    """
    source, file = read_script(path), os.path.abspath(path)
    with _as_main(path, file, arguments, restore=restore) as module:
        try:
            exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
        except StopTraining:
            return Outcome(0, stopped=True)
        except SystemExit as error:
            return Outcome(_exit_code(error))
        except KeyboardInterrupt as error:
            _show(error, file)
            return Outcome(INTERRUPTED, raised=True)
        except BaseException as error:  # noqa: BLE001  (as the interpreter does at top level)
            _show(error, file)
            return Outcome(1, raised=True)
        finally:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stdout.flush()
    return Outcome(0)


@contextlib.contextmanager
def _as_main(path: Path, file: str, arguments: Sequence[str], *, restore: bool) -> Iterator[types.ModuleType]:
    module = types.ModuleType("__main__")
    module.__dict__.update(
        __file__=file,
        __builtins__=builtins,
        __spec__=None,
        __cached__=None,
        __annotations__={},
        __loader__=SourceFileLoader("__main__", file),
    )
    saved, search_path, main = (sys.argv, sys.stdout, sys.stderr), sys.path[:], sys.modules["__main__"]
    sys.argv = [str(path), *arguments]
    sys.path[:1] = [os.path.dirname(os.path.realpath(file))]
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.argv, sys.stdout, sys.stderr = saved
        sys.path[:] = search_path
        if restore:
            sys.modules["__main__"] = main


def _exit_code(error: SystemExit) -> int:
    """Return the exit code of `sys.exit(...)`; a message is printed, as the interpreter does."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        fits = -(1 << 31) <= error.code < 1 << 31
        return error.code & 0xFF if fits else 0xFF  # what the interpreter makes of a number beyond a C int
    print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _show(error: BaseException, file: str) -> None:
    """Hand the exception to `sys.excepthook`, its traceback (and those of its causes) without our own frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != file:
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
    sys.excepthook(type(error), error, error.__traceback__)


def _without_ours(frames: types.TracebackType | None) -> types.TracebackType | None:
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep + "capture" + os.sep
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
