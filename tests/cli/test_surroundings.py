"""`unstuck run` on scripts that change what is around them."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAILS_LATER = """
    import torch
    w = torch.zeros(3, requires_grad=True)
    for step in range(5):
        (w ** 2).sum().backward()
        w.data -= 0.1 * w.grad
    print("five steps done")
    {}
"""


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


class TestScriptsThatChangeTheirSurroundings:
    """What a script does to the process must not cost the report."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "deed",
        [
            "import sys; sys.stdout = type('Tee', (), {'write': lambda s, t: len(t), 'flush': lambda s: None})()",
            "import sys; sys.stdout.close()",
            "import sys; sys.stdout = sys.stderr = None",
            "import sys; sys.path.clear()",
            "import sys; sys.argv.clear()",
            "import os; os.chdir('/')",
        ],
    )
    def test_the_report_is_printed_and_saved(self, script, tmp_path, deed):
        path = script(FAILS_LATER.format(deed))
        done = subprocess.run(
            [sys.executable, "-m", "unstuck", "run", "--save", "out", str(path)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "unstuck: " in done.stdout or "close" in deed
        assert (tmp_path / "out" / "report.json").is_file()

    def test_a_relative_script_is_named_as_python_names_it(self, script, tmp_path):
        script("print(__file__)\nraise ValueError('x')")
        own, ours = (
            subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
            for command in ([sys.executable, "train.py"], [sys.executable, "-m", "unstuck", "run", "train.py"])
        )
        assert ours.stdout.splitlines()[0] == own.stdout.splitlines()[0]
        assert ours.stderr == own.stderr

    def test_a_name_longer_than_the_system_allows(self, cli):
        said = cli("run", "x" * 3000)
        assert said.code == 2
        assert said.err.count("\n") == 1
        assert "File name too long" in said.err

    def test_exit_handlers_and_threads_find_the_scripts_main(self, script):
        path = script(
            """
            import atexit, pickle, threading, time
            class A: pass
            atexit.register(lambda: print("pickled", len(pickle.dumps(A())) > 0))
            """
        )
        done = process("-m", "unstuck", "run", path)
        assert "pickled True" in done.stdout
