"""`%load_ext unstuck` and the cell magic `%%unstuck` (https://ipython.readthedocs.io/en/stable/config/custommagics.html)."""

from __future__ import annotations

import argparse
import asyncio
import shlex
from typing import Any, NoReturn

from IPython.core.error import UsageError

from unstuck.api import Run
from unstuck.config import ConfigError, load
from unstuck.report import Report
from unstuck.rules.catalogue import UnknownRuleError

USAGE = (
    "%%unstuck [-v] [--fix] [--unsafe-fixes] [--every N | --overhead SHARE] [--select CODES] [--extend-select CODES] "
    "[--ignore CODES]"
)


class _Shown:
    """A report as a notebook shows it, with as much text as was asked for where there is only text."""

    def __init__(self, report: Report, *, verbose: bool) -> None:
        self._report, self._verbose = report, verbose

    def __repr__(self) -> str:
        return self._report.render(verbose=self._verbose).rstrip("\n")

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._report._repr_html_()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; usage: {USAGE}")


def _parser() -> _Parser:
    parser = _Parser(prog="%%unstuck", add_help=False)
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--fix", action="store_true")
    parser.add_argument("--unsafe-fixes", action="store_true")
    parser.add_argument("--every", type=int)
    for option in ("--overhead", "--select", "--extend-select", "--ignore"):
        parser.add_argument(option)
    return parser


def load_ipython_extension(shell: Any) -> None:
    """Register the cell magic with an IPython shell."""

    def unstuck(line: str, cell: str) -> None:
        """Run the cell under watch and show the report; an error of the cell follows and is an error of this one."""
        __tracebackhide__ = True  # of IPython: what follows is the cell's own
        try:
            options = _parser().parse_args(shlex.split(line))
            fix, unsafe_fixes = (vars(options).pop(name) for name in ("fix", "unsafe_fixes"))
            verbose = vars(options).pop("verbose")
            run = Run(load(**vars(options)), fix=fix, unsafe_fixes=unsafe_fixes, title="the cell")
            _refuse_await(shell, cell)
        except (ValueError, ConfigError, UnknownRuleError) as error:
            raise UsageError(f"unstuck: {error}") from None
        try:
            with run:
                _run(shell, cell)
        finally:
            shown = _Shown(run.report(), verbose=verbose)
            if "text/html" in shell.display_formatter.active_types:  # a terminal's shell knows text alone
                shell.display_pub.publish(*shell.display_formatter.format(shown))
            else:
                print(repr(shown))  # noqa: T201

    shell.register_magic_function(unstuck, "cell", "unstuck")


def _refuse_await(shell: Any, cell: str) -> None:
    running = asyncio._get_running_loop() is not None  # as in Jupyter, whose cells run inside a loop
    if running and shell.should_run_async(cell, transformed_cell=shell.transform_cell(cell)):
        raise ValueError("a cell with `await` outside of functions; write `with unstuck.watch() as run:` into the cell")


def _run(shell: Any, cell: str) -> None:
    """Run a cell as the shell does, but raise its error, for the shell to show and to stop "Run all".

    A line stands for the magic's own and the number is that of the cell, so that places are those that the user sees.
    """
    __tracebackhide__ = True
    first = "" if cell.lstrip().startswith("%%") else "# %%unstuck\n"
    number, cache = max(1, len(shell.user_ns.get("In", ())) - 1), shell.compile.cache
    shell.compile.cache = lambda code, _=0, **options: cache(code, number, **options)
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None
    try:
        result = shell.run_cell(first + cell)
    finally:
        del shell.compile.cache, shell.showtraceback, shell.showsyntaxerror
    if result.error_before_exec is not None:  # its frames are IPython's
        raise result.error_before_exec.with_traceback(None)
    result.raise_error()


def unload_ipython_extension(shell: Any) -> None:
    """Take the magic away."""
    shell.magics_manager.magics["cell"].pop("unstuck", None)
