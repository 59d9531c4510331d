"""The cell magic in a real IPython shell."""

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from integrations.test_examples import HOW_TO, blocks

TRAIN = """
import torch
w = torch.ones(3, 2, requires_grad=True)
for _ in range(5):
    torch.tanh(torch.eye(3) @ w).sum().backward()
    w.data -= 0.1 * w.grad
"""


@pytest.fixture(scope="module")
def shell():
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "unstuck")
    yield shell
    shell.run_line_magic("unload_ext", "unstuck")
    assert "unstuck" not in shell.magics_manager.magics["cell"]


@pytest.fixture
def notebook(shell, monkeypatch):
    """What a notebook is given to show."""
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    return publisher.outputs


def test_a_terminal_gets_text_and_no_page_is_made(shell, capsys, monkeypatch, notebook):
    monkeypatch.setattr(shell.display_formatter, "active_types", ["text/plain"])
    monkeypatch.setattr("unstuck.report.html.compact", lambda _: pytest.fail("nobody can see it"))
    shell.run_cell("%%unstuck\n" + TRAIN)
    said = capsys.readouterr().out
    assert "in 5 steps of the cell\n" in said
    assert "watching cost" in said.splitlines()[-1]
    assert notebook == []


def test_a_notebook_gets_the_page_and_the_text(shell, capsys, notebook):
    shell.run_cell("%%unstuck -v --select A,I,L\n" + TRAIN)
    assert capsys.readouterr().out == ""
    (shown,) = [output["data"] for output in notebook]
    assert shown.keys() == {"text/plain", "text/html"}
    assert "not checked:\n" in shown["text/plain"]  # as -v asks for
    assert shown["text/html"].startswith('<div class="unstuck">')
    first = shown["text/plain"].splitlines()[0].removeprefix("unstuck: ")
    assert first[:1].upper() + first[1:] in shown["text/html"]


def test_the_cell_runs_and_the_report_follows(shell, capsys):
    shell.run_cell("%%unstuck\n" + TRAIN)
    assert "in 5 steps of the cell" in capsys.readouterr().out
    assert shell.user_ns["w"].shape == (3, 2)


def test_an_error_in_the_cell_is_shown_and_the_session_ends(shell, capsys):
    shell.run_cell("%%unstuck\n" + TRAIN + "1 / 0\n")
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert "steps of the cell" in said
    shell.run_cell("%%unstuck --every 2\n" + TRAIN)
    assert "in 5 steps of the cell" in capsys.readouterr().out


def test_options_are_those_of_the_command(shell, capsys):
    shell.run_cell("%%unstuck -v --overhead 50% --select I,A --ignore I --extend-select U001\n" + TRAIN)
    said = capsys.readouterr().out
    assert "A002" in said.split("not checked")[1]
    assert "I002" not in said
    assert "U001" in said.split("not checked")[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--ever 2 x", "unstuck: unrecognized arguments: x; usage: %%unstuck [-v] [--fix]"),
        ("--every x", "unstuck: argument --every: invalid int value: 'x'; usage: %%unstuck [-v] [--fix]"),
        ("--select L999", "unstuck: no rule is called 'L999'"),
        ("--overhead much", "unstuck: overhead in the arguments must be a share of the training time"),
    ],
)
def test_bad_arguments_are_one_line_and_the_cell_does_not_run(shell, capsys, line, message):
    shell.run_cell(f"%%unstuck {line}\nran = True")
    said = capsys.readouterr().err.rstrip()
    assert said.startswith(f"UsageError: {message}")
    assert "\n" not in said
    assert "ran" not in shell.user_ns


def test_the_code_on_the_page_runs_as_it_stands(shell, capsys):
    (block,) = blocks(HOW_TO / "jupyter.md", "python")
    shell.user_ns["loader"] = [(1, 2)]
    assert shell.run_cell(block).success
    assert "nothing to judge" in capsys.readouterr().out
    assert shell.user_ns["targets"] == 2
