"""The public names: few, documented, pinned; and cheap to import."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import unstuck

NAMES = [
    "Config",
    "Finding",
    "Fix",
    "Report",
    "Run",
    "__version__",
    "assert_trainable",
    "check",
    "explain",
    "fix",
    "fold_norms",
    "recalibrate",
    "suggest_lr",
    "watch",
]
LAZY = {"numba", "altair", "matplotlib", "pandas", "vl_convert", "torch._dynamo", "typer", "starlette", "IPython"}


def test_the_names_are_these_and_no_more_than_fourteen():
    assert unstuck.__all__ == NAMES
    assert len(NAMES) <= 14


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("__")])
def test_each_says_what_it_is(name):
    documentation = inspect.getdoc(getattr(unstuck, name))
    assert documentation
    assert documentation.splitlines()[0].rstrip().endswith(".")


def test_errors_that_functions_raise_are_named_in_their_documentation():
    for function, errors in (
        (unstuck.watch, ("ConfigError", "UnknownRuleError", "SessionError")),
        (unstuck.check, ("ValueError",)),
        (unstuck.fix, ("ValueError",)),
        (unstuck.fold_norms, ("ValueError",)),
        (unstuck.recalibrate, ("ValueError",)),
        (unstuck.explain, ("UnknownRuleError",)),
        (unstuck.assert_trainable, ("AssertionError",)),
    ):
        assert all(error in (inspect.getdoc(function) or "") for error in errors), function


def test_import_loads_nothing_heavy_beyond_torch():
    code = """
import sys, json, torch
before = set(sys.modules)
import unstuck
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    with_torch, with_us = (set(names) for names in json.loads(done.stdout))
    assert LAZY & (with_us - with_torch) == set()
    assert "torch._dynamo" not in with_us
    assert "unstuck.api" in with_us
