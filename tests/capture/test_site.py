"""The names of files in places."""

import linecache
import os
import sys
from types import SimpleNamespace

import pytest

from unstuck.capture.site import location_of

CELL = "/tmp/ipykernel_1/2.py"


def place(file):
    return location_of(eval(compile("__import__('sys')._getframe()", file, "eval")))


@pytest.mark.parametrize(
    "ipython",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(get_ipython=lambda: None),
        SimpleNamespace(get_ipython=lambda: SimpleNamespace()),
        SimpleNamespace(get_ipython=lambda: SimpleNamespace(compile=compile)),
        SimpleNamespace(
            get_ipython=lambda: SimpleNamespace(compile=SimpleNamespace(format_code_name=lambda file: None))
        ),
    ],
    ids=["none", "no function", "no shell", "no compiler", "a plain one", "of another cell"],
)
def test_without_a_shell_that_knows_it_a_file_keeps_its_name(ipython, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert place("train.py").file == os.path.abspath("train.py")
    assert place("<stdin>").file == "<stdin>"


def test_a_cell_has_the_name_and_the_lines_of_its_tracebacks(monkeypatch):
    compiler = SimpleNamespace(format_code_name=lambda file: ("Cell", "In[3]") if file == CELL else None)
    shell = SimpleNamespace(compile=compiler)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(linecache.cache, CELL, (9, None, ["loss = 1\n"], CELL))
    monkeypatch.delitem(linecache.cache, "In[3]", raising=False)
    found = place(CELL)
    assert (found.file, found.line) == ("In[3]", 1)
    assert linecache.getline("In[3]", 1) == "loss = 1\n"
    del linecache.cache["In[3]"]
