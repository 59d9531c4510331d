"""`%load_ext unstuck` and the cell magic `%%unstuck` (https://ipython.readthedocs.io/en/stable/config/custommagics.html)."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

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
        """Run the cell under watch and show the report; an error of the cell is shown as usual."""
        try:
            options = _parser().parse_args(shlex.split(line))
            fix, unsafe_fixes = (vars(options).pop(name) for name in ("fix", "unsafe_fixes"))
            verbose = vars(options).pop("verbose")
            run = Run(load(**vars(options)), fix=fix, unsafe_fixes=unsafe_fixes, title="the cell")
        except (ValueError, ConfigError, UnknownRuleError) as error:
            print(f"unstuck: {error}")  # noqa: T201
            return
        with run:
            shell.run_cell(cell)
        shown = _Shown(run.report(), verbose=verbose)
        if "text/html" in shell.display_formatter.active_types:  # a terminal's shell knows text alone
            shell.display_pub.publish(*shell.display_formatter.format(shown))
        else:
            print(repr(shown))  # noqa: T201

    shell.register_magic_function(unstuck, "cell", "unstuck")


def unload_ipython_extension(shell: Any) -> None:
    """Take the magic away."""
    shell.magics_manager.magics["cell"].pop("unstuck", None)
