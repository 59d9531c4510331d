"""The lesson is what running it gives, and the tool that runs it names what is not."""

import subprocess
import sys

import pytest
from tools.lesson import LessonError, alike, parse
from zoo.forked import Done

from tools import lesson, lesson_ladder

SCRIPTS = sorted((lesson.ROOT / "examples" / "lesson").glob("*.py"))
MARKS = "<!-- ladder -->\n<!-- end of ladder -->\n"
GOOD = """\
# A page

Half of seven is 3.50.

```python
print("half:", 7 / 2)
```

```text
half: 3.5
```

"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that makes a page of a text, runs the tool on it, and returns exit code and page."""
    monkeypatch.setattr(lesson, "ROOT", tmp_path)
    monkeypatch.setenv("LESSON_PICTURES", "")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(MARKS)

    def write(text, *arguments):
        page = tmp_path / "docs" / "lesson.md"
        page.write_text(text + MARKS)
        code = lesson.main(list(arguments))
        return code, page.read_text().removesuffix(MARKS)

    return write


@pytest.fixture
def prints(monkeypatch):
    """A function that says what commands print, and returns the list of those that are run."""

    def set_output(text, code=0, error=""):
        commands = []
        monkeypatch.setattr(lesson, "_done", lambda command: commands.append(command) or Done(code, text, error))
        return commands

    return set_output


class TestThePage:
    def test_it_is_what_a_run_gives(self):
        done = subprocess.run(
            [sys.executable, "-m", "tools.lesson", "--check"],
            capture_output=True,
            text=True,
            cwd=lesson.ROOT,
            check=False,
        )
        assert done.stdout.splitlines() == [], "run python -m tools.lesson"
        assert done.returncode == 0, done.stderr

    def test_every_script_is_short_and_run_by_it(self):
        page = (lesson.ROOT / lesson.PAGE).read_text()
        for path in SCRIPTS:
            assert len(path.read_text().splitlines()) <= 40, path
            assert path.name == "names.py" or f"examples/lesson/{path.name}" in page, path

    def test_each_section_ends_with_a_command(self):
        for section in (lesson.ROOT / lesson.PAGE).read_text().partition(lesson_ladder.BEGIN)[0].split("\n## ")[1:]:
            blocks = [part for part in parse(section) if not part.blank]
            assert blocks[-1].kind == "console", section.splitlines()[0]

    def test_sections_are_short(self):
        for section in (lesson.ROOT / lesson.PAGE).read_text().partition(lesson_ladder.BEGIN)[0].split("\n## ")[1:]:
            prose = [line for part in parse(section) if part.kind == "prose" for line in part.lines if line.strip()]
            assert len(prose) <= 25, section.splitlines()[0]


class TestBlocks:
    @pytest.mark.parametrize("arguments", [[], ["--check"]])
    def test_a_page_that_is_right_stays_as_it_is(self, written, capsys, arguments):
        assert written(GOOD, *arguments) == (0, GOOD)
        assert capsys.readouterr().out == ""

    def test_the_last_digits_may_differ(self, written):
        page = GOOD.replace("7 / 2", "7.003 / 2")
        assert written(page, "--check")[0] == 0
        assert written(page) == (0, page)

    def test_a_drifted_number_is_named_and_written_anew(self, written, capsys):
        page = GOOD.replace("half: 3.5", "half: 3.7")
        assert written(page, "--check") == (1, page)
        assert capsys.readouterr().out == "docs/lesson.md:10: the block prints 'half: 3.5', not 'half: 3.7'\n"
        assert written(page) == (0, GOOD)

    def test_a_missing_output_is_named_and_written(self, written, capsys):
        page = GOOD.replace("\n```text\nhalf: 3.5\n```\n", "")
        assert written(page, "--check")[0] == 1
        assert "docs/lesson.md:7: what the block prints is missing after it: 'half: 3.5'" in capsys.readouterr().out
        code, new = written(page)
        assert code == 0
        assert '```python\nprint("half:", 7 / 2)\n```\n```text\nhalf: 3.5\n```\n' in new

    def test_an_output_that_is_too_much_is_named_and_goes(self, written, capsys):
        page = GOOD.replace("half: 3.5", "half: 3.5\nmore")
        assert written(page, "--check")[0] == 1
        assert capsys.readouterr().out == "docs/lesson.md:11: the block prints None, not 'more'\n"
        assert written(page) == (0, GOOD)

    def test_the_output_of_a_block_that_prints_nothing_goes(self, written):
        page = "```python\nx = 1\n```\n\n```text\nx\n```\n\n"
        code, new = written(page)
        assert code == 0
        assert "text" not in new

    @pytest.mark.parametrize(
        ("code", "line", "error"),
        [
            ("x = 1\n\ny = x / 0", 7, "ZeroDivisionError: division by zero"),
            ("x = 1\ny = (", 6, "SyntaxError: '(' was never closed"),
            ("x = 1\nint('a')", 6, "ValueError: invalid literal"),
        ],
    )
    def test_a_block_that_raises_names_line_and_block(self, written, capsys, code, line, error):
        page = f"# A page\n\nWords.\n```python\n{code}\n```\n"
        assert written(page) == (1, page)
        out = capsys.readouterr().out
        assert out.startswith(f"docs/lesson.md:{line}: {error}")
        assert out.endswith("(in the block 'x = 1')\n")

    def test_blocks_share_their_names(self, written):
        page = "```python\nx = 5\n```\n\n```python\nprint(x)\n```\n\n```text\n5\n```\n\n"
        assert written(page, "--check")[0] == 0

    def test_a_block_that_does_not_end(self):
        with pytest.raises(LessonError, match=r"docs/lesson.md:2: the block that begins here does not end"):
            parse("words\n```python\nx = 1\n")


class TestProse:
    @pytest.mark.parametrize(
        "number", ["3.5", "3.50", "4.", "1", "`99`", "[of 99](a)", "H99", "<!-- 99 -->", "section 9"]
    )
    def test_numbers_that_are_shown_or_are_none(self, written, number):
        page = GOOD.replace("3.50", number).replace("7 / 2)", "7 / 2)  # 4")
        assert written(page, "--check")[0] == 0

    @pytest.mark.parametrize("number", ["3.51", "3.4", "3", "99", "1,000"])
    def test_a_number_that_no_block_shows(self, written, capsys, number):
        page = GOOD.replace("3.50", number)
        assert written(page) == (1, page)
        said = f"docs/lesson.md:3: no block of this section shows the number {number}\n"
        assert capsys.readouterr().out == said

    def test_a_number_of_another_section(self, written, capsys):
        page = GOOD.replace("\n```python", "\n## Next\n\n```python")
        assert written(page)[0] == 1
        assert "3.50" in capsys.readouterr().out

    def test_thousands(self, written):
        page = "A run has 20,000 steps.\n\n```python\nsteps = 20_000\n```\n\n"
        assert written(page, "--check")[0] == 0


class TestCommands:
    PAGE = "```console\n$ unstuck run a.py\n…\nloss 3.50 at step 0\n  in a.py\n…\n```\n\n"
    OUTPUT = "first\nloss 3.50 at step 0\n  in a.py\nlast\n"

    def test_what_is_printed_stays(self, written, prints):
        commands = prints(self.OUTPUT)
        assert written(self.PAGE) == (0, self.PAGE)
        assert commands == ["unstuck run a.py"]

    def test_lines_are_found_where_they_stand_together(self, written, prints):
        prints("loss 9.00 at step 0\n" + self.OUTPUT)
        assert written(self.PAGE, "--check") == (0, self.PAGE)

    def test_a_drifted_number_is_named_and_written_anew(self, written, prints, capsys):
        prints(self.OUTPUT.replace("3.50", "3.20"))
        assert written(self.PAGE, "--check")[0] == 1
        assert "docs/lesson.md:4: the command prints 'loss 3.20 at step 0', not 'loss 3.50" in capsys.readouterr().out
        assert written(self.PAGE) == (0, self.PAGE.replace("3.50", "3.20"))

    @pytest.mark.parametrize(
        "output",
        ["first\nlast\n", "loss 3.50 at step 0\nbetween\n  in a.py\n", "  in a.py\nloss 3.50 at step 0\n"],
        ids=["gone", "not adjacent", "another order"],
    )
    def test_a_line_that_is_not_printed(self, written, prints, capsys, output):
        prints(output)
        assert written(self.PAGE) == (1, self.PAGE)
        assert "the command does not print" in capsys.readouterr().out

    def test_a_command_that_fails(self, written, prints, capsys):
        prints("", 2, "warning\nunstuck: a.py does not exist\n")
        assert written(self.PAGE)[0] == 1
        said = "docs/lesson.md:2: `unstuck run a.py` exits with 2: unstuck: a.py does not exist\n"
        assert capsys.readouterr().out == said

    def test_a_command_that_takes_too_long(self, written, prints, capsys):
        prints("", None)
        assert written(self.PAGE)[0] == 1
        assert "takes more than 120 s" in capsys.readouterr().out

    def test_a_block_without_a_command(self, written, capsys):
        assert written("```console\nls\n```\n")[0] == 1
        assert "a console block begins with `$ unstuck …`" in capsys.readouterr().out


class TestPictures:
    CODE = """import os, pathlib
pathlib.Path(os.environ['LESSON_PICTURES'], 'lesson-a.svg').write_text('<svg>{}</svg>')"""
    PAGE = "```python\n" + CODE + "\n```\n\n![A](images/lesson-a.svg)\n\n"

    def test_a_missing_picture_is_named_and_written(self, written, tmp_path, capsys):
        page = self.PAGE.format("1")
        assert written(page, "--check")[0] == 1
        assert capsys.readouterr().out == "docs/images/lesson-a.svg is missing\n"
        assert written(page)[0] == 0
        assert (tmp_path / "docs/images/lesson-a.svg").read_text() == "<svg>1</svg>"
        assert written(page, "--check")[0] == 0

    def test_a_picture_may_be_off_by_a_pixel(self, written, tmp_path):
        written(self.PAGE.format("10.0"))
        assert written(self.PAGE.format("10.9"), "--check")[0] == 0
        assert written(self.PAGE.format("11.5"), "--check")[0] == 1
        assert written(self.PAGE.format("11.5"))[0] == 0
        assert (tmp_path / "docs/images/lesson-a.svg").read_text() == "<svg>11.5</svg>"

    def test_a_picture_that_nothing_draws_goes(self, written, tmp_path, capsys):
        written(self.PAGE.format("1"))
        assert written("words\n", "--check")[0] == 1
        assert capsys.readouterr().out == "docs/images/lesson-a.svg no block draws it\n"
        written("words\n")
        assert not (tmp_path / "docs/images/lesson-a.svg").exists()

    def test_a_picture_that_is_not_shown(self, written, capsys):
        assert written(self.PAGE.format("1").replace("![A](images/lesson-a.svg)", ""))[0] == 1
        assert "draws lesson-a.svg but does not show it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("27 names", "27 names"),
        ("0.42", "0.43"),
        ("1000.0", "1000.9"),
        ("72 %", "71 %"),
        ("5%", "6%"),
        ("3.1e-07", "3.2e-07"),
    ],
)
def test_alike(old, new):
    assert alike(old, new)
    assert alike(new, old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("27 names", "28 names"),
        ("0.42", "0.44"),
        ("0.420", "0.422"),
        ("72 %", "70 %"),
        ("5 a", "5 b"),
        ("1e-07", "3e-07"),
        ("1", "1 2"),
    ],
)
def test_not_alike(old, new):
    assert not alike(old, new)
    assert not alike(new, old)
