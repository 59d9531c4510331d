"""Modules and notebooks, run as they are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from unstuck.capture.programs import ScriptError, read_module, read_notebook, read_program

TRAIN = """
    import sys, torch
    w = torch.ones(3, 2, requires_grad=True)
    def step():
        loss = torch.tanh(torch.eye(3) @ w).sum()
        loss.backward()
        w.data -= 0.1 * w.grad
    for _ in range(5):
        step()
    print(__name__, sys.argv[1:], __package__)
"""


def notebook(*cells):
    return json.dumps(
        {
            "nbformat": 4,
            "cells": [{"cell_type": kind, "source": source, "metadata": {}} for kind, source in cells],
        }
    )


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "unstuck", "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


class TestModules:
    @pytest.mark.parametrize("name", ["pack.train", "pack"])
    def test_as_python_m(self, script, tmp_path, name):
        script("", "pack/__init__.py")
        script(TRAIN, "pack/train.py")
        script(TRAIN, "pack/__main__.py")
        own = subprocess.run(
            [sys.executable, "-m", name, "--lr", "1"], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        ours = run("-m", name, "--lr", "1", cwd=tmp_path)
        assert ours.stdout.startswith(own.stdout)
        assert f"5 steps of {name}" in ours.stdout
        assert own.stdout == "__main__ ['--lr', '1'] pack\n"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("no_such_module_xyz", "no module named no_such_module_xyz in "),
            ("email", "email is a package without a __main__ module; name one of its modules"),
            ("no_such.module", "cannot find the module no_such.module: No module named 'no_such'; check the name"),
        ],
    )
    def test_refused(self, name, message):
        before = sys.path[:]
        with pytest.raises(ScriptError) as refused:
            read_module(name)
        assert message in str(refused.value)
        assert sys.path == before


class TestNotebooks:
    CELLS = (
        ("markdown", "# title"),
        ("code", ["import torch\n", "%matplotlib inline\n", "w = torch.ones(3, 2, requires_grad=True)\n"]),
        ("code", "%%bash\nrm -rf /\n"),
        (
            "code",
            "%%time\nfor _ in range(5):\n    !ls\n    h = torch.tanh(torch.eye(3) @ w)\n"
            "    h.sum().backward()\n    w.data -= 0.1 * w.grad",
        ),
        ("code", "print('done', w.shape)"),
    )

    def test_cells_in_order_with_their_own_lines(self, tmp_path):
        (tmp_path / "n.ipynb").write_text(notebook(*self.CELLS))
        done = run("--output-format", "json", "n.ipynb", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "done torch.Size([3, 2])" in done.stderr
        sites = json.loads(done.stdout)["sites"]
        (tanh,) = [site for site in sites if site["op"] == "tanh"]
        assert tanh["location"]["file"].endswith("n.ipynb[cell 4]")
        assert tanh["location"]["line"] == 4
        assert tanh["location"]["source"] == "h = torch.tanh(torch.eye(3) @ w)"

    def test_what_is_left_out_is_said(self, tmp_path):
        (tmp_path / "n.ipynb").write_text(notebook(*self.CELLS))
        assert read_notebook(tmp_path / "n.ipynb").notes == (
            "n.ipynb[cell 2]:2 left out: %matplotlib inline",
            "n.ipynb[cell 3]:1 left out: %%bash",
            "n.ipynb[cell 4]:1 left out: %%time",
            "n.ipynb[cell 4]:3 left out: !ls",
        )

    @pytest.mark.parametrize(
        ("cell", "left_out"),
        [
            ("print('lr is %s'\n      % 0.1)", []),
            ("s = '''\n% a comment\n! b\n'''\nassert len(s) == 17", []),
            ("x = !ls\ny = 1", ["x = !ls"]),
            ("%matplotlib inline\nz = (1 +\n2)", ["%matplotlib inline"]),
            ("!pip install \\\n   a \\\n   b\nok = 1", ["!pip install \\", "a \\", "b"]),
            ("if True:\n    !ls\nelse:\n    pass", ["!ls"]),
            ("print?\nprint('x')", ["print?"]),
            ("display('shown')", []),
        ],
    )
    def test_only_what_python_cannot_read_is_left_out(self, tmp_path, cell, left_out):
        path = tmp_path / "n.ipynb"
        path.write_text(notebook(("code", cell)))
        program = read_notebook(path)
        assert [note.split(" left out: ")[1] for note in program.notes] == left_out
        exec(program.sources[0].compile(), dict(program.main))

    def test_an_error_names_the_cell(self, tmp_path):
        (tmp_path / "n.ipynb").write_text(notebook(("code", "x = 1\n1 / 0")))
        done = run("n.ipynb", cwd=tmp_path)
        assert done.returncode == 1
        assert 'n.ipynb[cell 1]", line 2, in <module>\n    1 / 0' in done.stderr

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [{}]}', '{"cells": 3}', "not json"])
    def test_refused(self, tmp_path, text):
        path = tmp_path / "n.ipynb"
        path.write_text(text)
        with pytest.raises(ScriptError, match=r"n.ipynb is not a notebook of format 4: .*; save it anew") as refused:
            read_program(path)
        assert "\n" not in str(refused.value)


class TestEndings:
    def test_os_exit_keeps_the_report(self, script, tmp_path):
        path = script(TRAIN + "    import os\n    os._exit(7)\n")
        done = run("--save", "out", path, cwd=tmp_path)
        assert done.returncode == 7
        assert "5 steps of train.py" in done.stdout
        assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["exit_code"] == 7

    def test_a_forked_child_that_leaves_by_os_exit_prints_no_report(self, script, tmp_path):
        path = script(TRAIN + "    import os\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()\n")
        done = run(path, cwd=tmp_path)
        assert done.stdout.count("steps of train.py") == 1

    def test_termination_keeps_the_report(self, script, tmp_path):
        path = script(
            TRAIN + "    import os, signal\n    os.kill(os.getpid(), signal.SIGTERM)\n    import time; time.sleep(9)\n"
        )
        done = run(path, cwd=tmp_path)
        assert done.returncode == 143
        assert "5 steps of train.py" in done.stdout

    def test_data_loader_workers_are_unharmed(self, script, tmp_path):
        path = script(
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            if __name__ == "__main__":  # from Python 3.14 on, workers are no forks
                data = TensorDataset(torch.randn(64, 4), torch.randint(0, 3, (64,)))
                model = torch.nn.Linear(4, 3)
                optimizer = torch.optim.SGD(model.parameters(), 0.1)
                for x, y in DataLoader(data, batch_size=16, num_workers=2):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(x), y).backward()
                    optimizer.step()
                print("trained")
            """
        )
        done = run(path, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "trained" in done.stdout
        assert "in 4 steps of train.py" in done.stdout
