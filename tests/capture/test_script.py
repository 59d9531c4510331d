"""A script runs as `python SCRIPT` runs it: compared with a real interpreter, case by case."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unstuck.capture.script import (
    INTERRUPTED,
    Outcome,
    ScriptError,
    read_script,
    run_program,
    run_script,
    stdout_to_stderr,
    terminable,
    unterminable,
)
from unstuck.capture.session import StopTraining

Write = Callable[..., Path]


@pytest.fixture
def same_as_python(script: Write, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a script both ways and compare exit code, standard output and standard error, letter for letter."""

    def compare(text: str | bytes, *arguments: str, name: str = "train.py") -> Outcome:
        path = script(text, name)
        command = [sys.executable, str(path), *arguments]
        expected = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
        capfd.readouterr()
        outcome = run_script(path, arguments)
        said = capfd.readouterr()
        assert said.out == expected.stdout
        assert said.err == expected.stderr
        assert outcome.exit_code == expected.returncode
        return outcome

    return compare


class TestEnvironment:
    @pytest.mark.parametrize(
        "text",
        [
            "import sys; print(sys.argv, sys.path[0])",
            "print(__name__, __file__, __package__, __spec__, __doc__)",
            '"""What it does."""\nprint(__doc__)',
            "import __main__; print(__main__.__file__, __main__.__dict__ is globals())",
            "print(sorted(globals()))",
            "x: int = 3\nprint(globals().get('__annotations__'))",
            "import __main__\nx: int = 3\nprint(__main__.__annotations__)",
            "from __future__ import annotations\nx: NotYet = 3\nprint(__annotations__)",
            "if __name__ == '__main__': print('main')",
            "print('ö', flush=True)\nimport sys; print('to stderr', file=sys.stderr)",
            "import sys; sys.stdout.write('no newline at the end')",
            "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
            "import os; os.write(1, b'past sys.stdout')",
            "import builtins; print(__builtins__ is builtins)",
        ],
    )
    def test_what_a_script_sees(self, same_as_python, text):
        assert same_as_python(text, "--lr", "0.1", "--", "--steps") == Outcome(0)

    def test_our_future_imports_are_not_inherited(self, same_as_python):
        same_as_python("def f(x: 1 + 1): pass\nprint(f.__annotations__)")

    @pytest.mark.parametrize("source", [b"\xef\xbb\xbfprint('mark')\n", b"# coding: latin-1\nprint('\xe9')\n", b""])
    def test_encodings_and_nothing(self, same_as_python, source):
        same_as_python(source)

    def test_a_sibling_module_is_imported_from_the_scripts_folder(self, script, same_as_python):
        script("value = 7", "code/my_sibling_of_train.py")
        same_as_python("import my_sibling_of_train as m; print(m.value, m.__file__)", name="code/train.py")
        del sys.modules["my_sibling_of_train"]

    def test_through_a_link_the_folder_is_the_real_ones(self, script, tmp_path, capfd):
        real = script("import sys; print(sys.argv[0], sys.path[0])", "real/train.py")
        link = tmp_path / "link.py"
        link.symlink_to(real)
        expected = subprocess.run([sys.executable, str(link)], capture_output=True, text=True, check=True).stdout
        run_script(link, [])
        assert capfd.readouterr().out == expected

    def test_classes_of_the_script_can_be_pickled(self, same_as_python):
        text = """
            import pickle
            class Point:
                def __init__(self, x): self.x = x
            print(pickle.loads(pickle.dumps(Point(3))).x, type(pickle.loads(pickle.dumps(Point(3)))) is Point)
        """
        assert same_as_python(text).exit_code == 0

    def test_a_spawned_child_finds_its_function(self, same_as_python):
        text = """
            import multiprocessing as mp
            def square(x): return x * x
            if __name__ == "__main__":
                with mp.get_context("spawn").Pool(1) as pool:
                    print(pool.map(square, [1, 2, 3]))
        """
        assert same_as_python(text).exit_code == 0

    def test_a_forked_child_may_leave(self, same_as_python):
        text = """
            import os
            if not (pid := os.fork()):
                os.write(1, b"child\\n"); os._exit(0)
            os.waitpid(pid, 0); print("parent")
        """
        assert same_as_python(text).exit_code == 0


class TestExitCodes:
    @pytest.mark.parametrize(
        "code",
        ["", "None", "0", "3", "255", "256", "-1", "1000", "True", "False", "'a message'", "''", "3.7", "(1, 2)", "[]"],
    )
    def test_sys_exit(self, same_as_python, code):
        outcome = same_as_python(f"import sys\nprint('before')\nsys.exit({code})\nprint('after')")
        assert not outcome.raised
        assert not outcome.stopped

    def test_raise_system_exit_from_deep_inside(self, same_as_python):
        assert same_as_python("def f(): raise SystemExit(4)\ntry:\n    f()\nfinally:\n    print('f')").exit_code == 4

    def test_an_exception_is_one(self, same_as_python):
        assert same_as_python("print('before')\n1 / 0") == Outcome(1, raised=True)

    def test_ctrl_c_is_130_as_in_a_shell(self, script, capfd):
        path = script("import signal; signal.raise_signal(signal.SIGINT)")
        assert run_script(path, []) == Outcome(INTERRUPTED, raised=True)
        expected = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
        assert expected.returncode == -signal.SIGINT
        assert capfd.readouterr().err == expected.stderr
        assert INTERRUPTED == 130

    @pytest.mark.parametrize(
        ("text", "exception", "ended_by"),
        [
            ("raise SystemExit(3)", "", ""),
            ("raise SystemExit(143)", "", ""),
            ("1 / 0", "ZeroDivisionError: division by zero", ""),
            ("raise ValueError('\\n first \\nsecond')", "ValueError: first", ""),
            ("raise ValueError", "ValueError", ""),
            ("import json; json.loads('{')", "json.decoder.JSONDecodeError: Expecting property name enclosed in", ""),
            ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E", ""),
            ("raise KeyboardInterrupt", "", "SIGINT"),
            ("import signal; signal.raise_signal(signal.SIGTERM)", "", "SIGTERM"),
        ],
    )
    def test_what_ended_it_is_named(self, script, capfd, text, exception, ended_by):
        outcome = run_script(script(text), [])
        assert outcome.exception.startswith(exception)
        assert bool(outcome.exception) is bool(exception)
        assert outcome.signal == ended_by

    def test_sigterm_comes_too_late_once_a_report_is_under_way(self):
        """As from torchrun, when another process has failed."""
        with unterminable():
            with pytest.raises(SystemExit), terminable():
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def test_a_handler_of_the_programs_own_stays(self):
        came = []
        before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
        try:
            with unterminable(), terminable():
                signal.raise_signal(signal.SIGTERM)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert came == [1]

    def test_sigterm_is_left_alone_where_no_report_is_to_follow(self, script):
        path = script("import signal\nassert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL")
        assert run_program(read_script(path), [], on_sigterm=False).exit_code == 0
        assert run_script(path, []).exit_code == 1

    def test_our_own_end_is_a_success(self, script, capfd):
        path = script("from unstuck.capture.session import StopTraining\nprint('x')\nraise StopTraining")
        assert run_script(path, []) == Outcome(0, stopped=True)
        assert capfd.readouterr() == ("x\n", "")

    def test_our_own_end_passes_the_scripts_except_exception(self):
        assert not issubclass(StopTraining, Exception)


class TestTracebacks:
    @pytest.mark.parametrize(
        "text",
        [
            "def f(x):\n    return 1 / x\n\n\nprint('before')\nf(0)",
            "try:\n    {}['key']\nexcept KeyError as e:\n    raise ValueError('worse') from e",
            "try:\n    {}['key']\nexcept KeyError:\n    raise ValueError('worse')",
            "try:\n    {}['key']\nexcept KeyError:\n    raise ValueError('worse') from None",
            "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
            "class E(Exception): pass\nraise E('über')",
            "class E(BaseException): pass\nraise E",
            "e = ValueError('x'); e.add_note('a note'); raise e",
            "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
            "open('/no/such/file')",
            "import json; json.loads('{')",
            "eval('1 / 0')",
            "exec(compile('1 / 0', 'made_up.py', 'exec'))",
            "import no_such_module_anywhere",
            "assert 1 == 2, 'no'",
            "raise GeneratorExit",
        ],
    )
    def test_they_are_the_interpreters_own(self, same_as_python, text):
        assert same_as_python(text) == Outcome(1, raised=True)

    @pytest.mark.parametrize("text", ["x = (\n", "if 1:\nx\n", "def f(:\n  pass", "return 3", "f'{'"])
    def test_syntax_errors_too(self, same_as_python, text):
        assert same_as_python(text.encode()) == Outcome(1, raised=True)

    def test_a_syntax_error_in_a_sibling(self, script, same_as_python):
        script("x = = 1", "badly_written_sibling.py")
        same_as_python("import badly_written_sibling")

    def test_our_frames_are_absent(self, script, capfd):
        run_script(script("def f():\n    raise ValueError('x')\nf()"), [])
        said = capfd.readouterr().err
        assert said.count("  File ") == 2
        assert "unstuck" not in said


class TestRestored:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1 / 0",
            "import sys; sys.exit(3)",
            "raise KeyboardInterrupt",
            "x = (",
            "import sys; sys.argv = ['changed']; sys.path[0] = 'changed'",
        ],
    )
    def test_arguments_path_and_main_module(self, script, capfd, text):
        before = list(sys.argv), list(sys.path), sys.modules["__main__"]
        run_script(script(text), ["--lr", "1"])
        assert (sys.argv, sys.path, sys.modules["__main__"]) == before


class TestReadScript:
    def test_a_script_is_read_as_bytes(self, script):
        assert read_script(script(b"# \xff\n")).sources[0].text == b"# \xff\n"

    def test_missing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ScriptError) as error:
            read_script(Path("no.py"))
        assert str(error.value) == f"no script at no.py; check the path (now in {tmp_path})"

    def test_a_folder(self, tmp_path):
        with pytest.raises(ScriptError) as error:
            read_script(tmp_path)
        assert str(error.value) == f"{tmp_path} is a folder, not a script; name a Python file"

    def test_below_a_file(self, script):
        path = script("") / "train.py"
        with pytest.raises(ScriptError) as error:
            read_script(path)
        assert str(error.value) == f"cannot read {path}: Not a directory; check its permissions"

    def test_nothing_is_run_when_there_is_no_script(self, tmp_path):
        before = sys.modules["__main__"]
        with pytest.raises(ScriptError):
            run_script(tmp_path / "no.py", [])
        assert sys.modules["__main__"] is before


class TestStdoutToStderr:
    def test_everything_written_goes_there_and_comes_back(self, capfd):
        print("one")  # noqa: T201
        with stdout_to_stderr():
            print("two", flush=True)  # noqa: T201
            subprocess.run([sys.executable, "-c", "print('three')"], check=True)
        print("four", flush=True)  # noqa: T201
        assert capfd.readouterr() == ("one\nfour\n", "two\nthree\n")

    def test_also_after_an_exception(self, capfd):
        with pytest.raises(KeyError), stdout_to_stderr():
            raise KeyError
        print("back", flush=True)  # noqa: T201
        assert capfd.readouterr() == ("back\n", "")

    def test_a_redirected_stream_is_redirected_again(self, capsys):
        before = sys.stdout
        with stdout_to_stderr():
            print("to stderr")  # noqa: T201
        assert sys.stdout is before
        assert capsys.readouterr() == ("", "to stderr\n")
