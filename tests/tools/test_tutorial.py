"""The tutorial and the answers are what running them gives, and the tool names what is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from zoo.forked import Done

from tools import lesson, tutorial

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "examples" / "tutorial"
TUTORIAL, ANSWERS = tutorial.PAGES


class TestThePages:
    @pytest.mark.slow
    def test_each_is_what_a_run_gives(self):
        command = [sys.executable, "-m", "tools.tutorial", "--check"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    @pytest.mark.slow
    def test_the_patched_script_is_what_unstuck_fix_writes(self, tmp_path):
        script = shutil.copy(SCRIPTS / "stuck.py", tmp_path)
        command = [sys.executable, "-m", "unstuck", "fix", "--write", str(script)]
        subprocess.run(command, capture_output=True, check=True)
        assert Path(script).read_text() == (SCRIPTS / "patched.py").read_text()

    def test_the_stuck_script_is_short(self):
        assert len((SCRIPTS / "stuck.py").read_text().splitlines()) <= 42


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that makes a tutorial of a text, runs the tool on it, and returns exit code and page."""
    monkeypatch.setattr(lesson, "ROOT", tmp_path)
    monkeypatch.setattr(lesson, "_done", lambda command: Done(0, "x 1\ny\n", ""))
    (tmp_path / "docs").mkdir()
    (tmp_path / ANSWERS).write_text("# Questions\n")
    (tmp_path / "one.py").write_text("a = 1\nb = 2\n")
    (tmp_path / "two.py").write_text("a = 1\nb = 3\n")

    def write(text, *arguments):
        page = tmp_path / TUTORIAL
        page.write_text(text)
        code = tutorial.main(list(arguments))
        return code, page.read_text()

    return write


GOOD = """\
```py
# one.py
a = 1
b = 2
```

```diff
--- one.py
+++ two.py
@@ -1,2 +1,2 @@
 a = 1
-b = 2
+b = 3
```

```console
$ unstuck run one.py
x 1
…
```
"""


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_a_page_that_is_right_stays(written, capsys, arguments):
    assert written(GOOD, *arguments) == (0, GOOD)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (GOOD.replace("b = 2\n```", "b = 9\n```"), "docs/tutorial.md:2: the block is not that of one.py"),
        (GOOD.replace("+b = 3", "+b = 9"), "docs/tutorial.md:8: the block is not that of one.py and two.py"),
        (GOOD.replace("x 1", "x 9"), "docs/tutorial.md:18: the command prints 'x 1', not 'x 9'"),
    ],
)
def test_what_is_not_so_is_named_and_written_anew(written, capsys, spoilt, said):
    assert written(spoilt, "--check") == (1, spoilt)
    assert capsys.readouterr().out == f"{said}\n"
    assert written(spoilt) == (0, GOOD)


def test_a_line_that_is_not_printed_is_for_the_author_to_mend(written, capsys):
    page = GOOD.replace("x 1", "z")
    assert written(page) == (1, page)
    assert capsys.readouterr().out == "docs/tutorial.md:18: the command does not print 'z' here\n"


def test_a_file_that_is_not_there(written, capsys):
    page = GOOD.replace("# one.py", "# gone.py")
    assert written(page) == (1, page)
    said = "docs/tutorial.md:2: there is no gone.py; a block begins with its path in the repository\n"
    assert capsys.readouterr().out == said
