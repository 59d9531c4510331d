"""Reports in a real kernel, driven by nbclient (https://nbclient.readthedocs.io/)."""

import pytest

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat  # noqa: E402

from integrations.test_examples import EXAMPLES, HOW_TO, blocks  # noqa: E402

TRAIN = """\
import torch
w = torch.ones(3, 2, requires_grad=True)
optimizer = torch.optim.SGD([w], 0.1)  # gradients are never cleared
for _ in range(5):
    torch.tanh(torch.eye(3) @ w).sum().backward()
    optimizer.step()
"""
CELLS = {
    "load": "%load_ext unstuck",
    "magic": f"%%unstuck --select T001\n{TRAIN}",
    "a value": f"%%unstuck\n{TRAIN}w.shape",
    "an error": f"%%unstuck\n{TRAIN}1 / 0",
    "an interrupt": f"%%unstuck\n{TRAIN}raise KeyboardInterrupt",
    "no Python": "%%unstuck\nx = = 1",
    "await": "%%unstuck\nimport asyncio\nawait asyncio.sleep(0)",
    "option": "%%unstuck --evry 3\nran = True",
    "watch": "import unstuck\nwith unstuck.watch(select=['T001']) as run:\n    "
    + TRAIN.replace("\n", "\n    ")
    + "\nrun.report()",
}


def execute(notebook, folder, **options):
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", **options)
    client.execute(cwd=str(folder))
    return notebook.cells


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Each cell as it looks after all were run."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.values()])
    ran = execute(made, tmp_path_factory.mktemp("notebook"), allow_errors=True)
    return dict(zip(CELLS, ran, strict=True))


def kinds(cell):
    return [output.output_type for output in cell.outputs]


@pytest.mark.parametrize(("name", "shown"), [("magic", "display_data"), ("watch", "execute_result")])
def test_a_report_is_one_output_with_page_and_text(cells, name, shown):
    assert kinds(cells[name]) == [shown]
    data = cells[name].outputs[0].data
    assert data["text/html"].startswith('<div class="unstuck">')
    assert "T001" in data["text/html"]
    title = "the cell" if name == "magic" else "training"
    assert data["text/plain"].startswith(f"unstuck: 1 root cause (T001) in 5 steps of {title}\n")


@pytest.mark.parametrize(("name", "line"), [("magic", 6), ("watch", 7)])
def test_places_are_lines_of_numbered_cells_and_their_source_is_shown(cells, name, line):
    text = cells[name].outputs[0].data["text/plain"]
    assert f"T001 accumulating-gradients  In[{cells[name].execution_count}]:{line}\n" in text
    assert "│ torch.tanh(torch.eye(3) @ w).sum().backward()" in text


def test_a_value_is_shown_under_the_cells_number(cells):
    assert kinds(cells["a value"]) == ["execute_result", "display_data"]
    assert cells["a value"].outputs[0].execution_count == cells["a value"].execution_count


@pytest.mark.parametrize(
    ("name", "error", "ending"),
    [
        ("an error", "ZeroDivisionError", "which ended with ZeroDivisionError: division by zero\n"),
        ("an interrupt", "KeyboardInterrupt", "which was interrupted (Ctrl-C)\n"),
        ("no Python", "SyntaxError", "which ended with SyntaxError: invalid syntax"),
    ],
)
def test_an_error_of_the_cell_is_the_cells_and_follows_the_report(cells, name, error, ending):
    assert kinds(cells[name]) == ["display_data", "error"]
    report, failure = cells[name].outputs
    assert ending in report.data["text/plain"]
    assert failure.ename == error
    if name != "no Python":  # of which IPython shows each frame
        assert "integrations/ipython.py" not in "\n".join(failure.traceback)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("await", "a cell with `await` outside of functions; write `with"), ("option", "unrecognized arguments: --evry")],
)
def test_what_cannot_be_done_is_one_line(cells, name, complaint):
    (said,) = cells[name].outputs
    assert said.text.startswith(f"UsageError: unstuck: {complaint}")
    assert said.text.count("\n") == 1


def test_run_all_ends_at_an_error_as_it_does_without(tmp_path):
    texts = ["%load_ext unstuck", "%%unstuck\n1 / 0", "open('went-on', 'w')"]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        execute(made, tmp_path)
    assert not (tmp_path / "went-on").exists()


def test_the_example_shows_what_the_page_says(tmp_path):
    example = nbformat.read(EXAMPLES / "with_jupyter.ipynb", as_version=4)
    nbformat.validate(example)
    assert all(not cell.get("outputs") for cell in example.cells)
    said = execute(example, tmp_path)[-1].outputs[0].data["text/plain"]
    (shown,) = blocks(HOW_TO / "jupyter.md", "text")
    assert said.startswith(shown)
