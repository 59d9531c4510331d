"""What can be run: a script, a module (`-m`), or a notebook; each read and compiled before anything runs."""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.util
import json
import linecache
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

IPYTHON_LINE = re.compile(r"\s*([%!?]|[\w., ]+=\s*[%!]|.*\?\s*$)")


class ScriptError(ValueError):
    """The program cannot be run at all: one line saying what, where and what to do."""


@dataclass(frozen=True)
class Source:
    """One piece of source: its text, as bytes or str, and the file name that tracebacks and findings show."""

    text: bytes | str | CodeType
    file: str

    def compile(self) -> CodeType:
        """Compile it; raises SyntaxError."""
        if isinstance(self.text, CodeType):
            return self.text
        return compile(self.text, self.file, "exec", dont_inherit=True)


@dataclass(frozen=True)
class Program:
    """A program ready to run as `__main__`: its pieces in order, its globals, `sys.argv[0]` and `sys.path[0]`."""

    title: str
    argv0: str
    path0: str
    sources: tuple[Source, ...]
    main: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def files(self) -> frozenset[str]:
        """The names under which its code is known."""
        return frozenset(source.file for source in self.sources)


def read_program(path: Path) -> Program:
    """Read a script or, by its suffix, a notebook; raises ScriptError when there is none to read."""
    return read_notebook(path) if path.suffix == ".ipynb" else read_script(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise ScriptError(f"{path} is a folder, not a script; name a Python file") from None
    except FileNotFoundError:
        raise ScriptError(f"no script at {path}; check the path (now in {Path.cwd()})") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ScriptError(f"cannot read {path}: {reason}; check its permissions") from None


def _globals(file: str) -> dict[str, Any]:
    return {
        "__file__": file,
        "__builtins__": builtins,
        "__spec__": None,
        "__cached__": None,
        **({"__annotations__": {}} if sys.version_info < (3, 14) else {}),  # later ones make it when it is asked for
        "__loader__": SourceFileLoader("__main__", file),
    }


def read_script(path: Path, text_of: Path | None = None) -> Program:
    """Read a Python file; with `text_of` the program has that file's text and is else what `path` is.

    Raises ScriptError.
    """
    text, file = _bytes(path if text_of is None else text_of), os.path.abspath(path)
    if text_of is not None:
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):  # which running it will show
            shown = importlib.util.decode_source(text)
            linecache.cache[file] = (len(shown), None, shown.splitlines(keepends=True), file)
    return Program(path.name, str(path), os.path.dirname(os.path.realpath(file)), (Source(text, file),), _globals(file))


def read_module(name: str) -> Program:
    """Find a module (of a package: its `__main__`) as `python -m NAME` does; raises ScriptError."""
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
            if spec is None:
                raise ScriptError(f"{name} is a package without a __main__ module; name one of its modules")
        code = spec.loader.get_code(spec.name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    except (ImportError, AttributeError, ValueError) as error:
        raise ScriptError(f"cannot find the module {name}: {error}; check the name") from None
    finally:
        sys.path.pop(0)
    if spec is None or spec.origin is None or not isinstance(code, CodeType):
        raise ScriptError(f"no module named {name} in {Path.cwd()} or among the installed packages; check the name")
    main = {**_globals(spec.origin), "__spec__": spec, "__package__": spec.parent, "__loader__": spec.loader}
    return Program(name, spec.origin, os.getcwd(), (Source(code, code.co_filename),), main)


def read_notebook(path: Path) -> Program:
    """Read the code cells of a notebook (https://nbformat.readthedocs.io), in order; raises ScriptError.

    Each cell is a file of its own to tracebacks and findings, "name.ipynb[cell 3]", with its own line numbers. Lines
    for IPython alone (%, ! and ?) are left out; so are cells that begin with %%, except %%time
    and %%capture. Notes say which.
    """
    try:
        cells = json.loads(_bytes(path))["cells"]
        codes = [(n, _text(cell["source"])) for n, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ScriptError(
            f"{path} is not a notebook of format 4: {type(error).__name__} {error}; save it anew"
        ) from None
    file = os.path.abspath(path)
    sources: list[Source] = []
    notes: list[str] = []
    for number, text in codes:
        name = f"{file}[cell {number}]"
        kept, left_out = _plain_python(text)
        notes.extend(f"{path.name}[cell {number}]:{line} left out: {what}" for line, what in left_out)
        sources.append(Source(kept, name))
        linecache.cache[name] = (len(kept), None, kept.splitlines(keepends=True), name)
    folder = os.path.dirname(os.path.realpath(file))
    return Program(path.name, str(path), folder, tuple(sources), {**_globals(file), "display": print}, tuple(notes))


def _text(source: str | Sequence[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _plain_python(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Blank out what only IPython understands, keeping line numbers; return the rest and (line, text) left out.

    A line is left out only where the parser stumbles over it: "% 3" may well continue an expression or a string.
    """
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    magic = lines[first].strip() if lines else ""
    if magic.startswith("%%") and magic.split()[0] not in ("%%time", "%%capture"):
        return "\n".join(_blank(line) for line in lines) + "\n", [(first + 1, magic)]
    left_out = []
    while (number := _stumbles_at(lines)) is not None:
        more, replacement = True, _blank(lines[number])
        while more and number < len(lines):  # a command may go on after a backslash
            more = lines[number].rstrip().endswith("\\")
            left_out.append((number + 1, lines[number].strip()))
            lines[number], replacement = replacement, ""
            number += 1
    return "\n".join(lines) + "\n", left_out


def _stumbles_at(lines: list[str]) -> int | None:
    """Return the index of the line at which parsing fails, when that line is one for IPython; else None."""
    try:
        ast.parse("\n".join(lines) + "\n")
    except SyntaxError as error:
        number = (error.lineno or 0) - 1
        if 0 <= number < len(lines) and IPYTHON_LINE.match(lines[number]):
            return number
    except (ValueError, MemoryError, RecursionError):  # NUL, half a character, a deep nest: running it will show that
        return None
    return None


def _blank(line: str) -> str:
    """Return a statement that does nothing, at the same indentation."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}pass" if line.strip() else line
