"""Programs in processes of their own: failures apart, and nothing left running."""

import signal
import threading

import pytest
from zoo.processes import Processes, ProgramError, each

from zoo import forked

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def python(tmp_path):
    """Run a text as a program, under a label."""

    def run(text, limit=60.0, label="it", processes=None):
        script = tmp_path / f"{label}.py"
        script.write_text(text, encoding="utf-8")
        return (processes or Processes()).run([str(script)], label=label, time_limit=limit)

    return run


def test_what_is_printed_comes_back(python):
    assert python("import os; print(os.environ['OMP_NUM_THREADS'])") == "1\n"


def test_a_program_is_the_main_module_with_its_own_name_and_folder(python, tmp_path):
    (tmp_path / "beside.py").write_text("value = 7", encoding="utf-8")
    text = "import sys, beside; print(__name__, sys.argv == [__file__], beside.value)"
    assert python(text) == "__main__ True 7\n"


def test_what_one_program_leaves_behind_the_next_does_not_see(python):
    python("import torch; torch.manual_seed(3); torch.set_default_dtype(torch.float64); torch.left = 1", label="first")
    text = "import torch; print(torch.get_default_dtype(), hasattr(torch, 'left'))"
    assert python(text, label="second") == "torch.float32 False\n"


def test_a_program_that_fails_says_why(python):
    with pytest.raises(ProgramError, match="it exited with 3:\nlost"):
        python("import sys; print('lost', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ProgramError, match=r"(?s)it exited with 1:\n.*ZeroDivisionError"):
        python("1 / 0")


def several(tmp_path, text):
    """Run a text in two processes."""
    script = tmp_path / "it.py"
    script.write_text(text, encoding="utf-8")
    return forked.python([str(script)], processes=2, time_limit=60.0)


def test_several_processes_are_told_who_they_are_and_the_first_is_heard(tmp_path):
    text = "import os; print(*(os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR')))"
    assert several(tmp_path, text) == forked.Done(0, "0 2 127.0.0.1\n", "")


def test_of_several_processes_the_one_that_fails_is_heard(tmp_path):
    text = "import os, sys\nif os.environ['RANK'] == '1': sys.exit('lost')\nprint('first')\n"
    done = several(tmp_path, text)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_program_that_takes_too_long_is_ended(python):
    with pytest.raises(ProgramError, match=r"it took longer than 0\.2 s"):
        python(SLEEP, limit=0.2)


def test_results_stay_in_order_beside_failures():
    def double(item, _):
        if item % 2:
            raise ProgramError(f"odd {item}")
        return 2 * item

    assert each(double, range(5), jobs=2) == ([0, 4, 8], ["odd 1", "odd 3"])


def test_an_interrupt_kills_what_runs_and_starts_nothing_more(python, monkeypatch):
    started, codes, begun, complaints = threading.Event(), [], [], []
    whole = forked.python

    def noted(*arguments, **options):
        tell = options["started"]

        def also(process):
            tell(process)
            started.set()

        done = whole(*arguments, **{**options, "started": also})
        codes.append(done.returncode)
        return done

    def work(item, processes):
        begun.append(item)
        if item == "interrupt":
            assert started.wait(60)
            raise KeyboardInterrupt
        try:
            python(SLEEP, label=item, processes=processes)
        except ProgramError as error:
            complaints.append(str(error))
            raise

    monkeypatch.setattr(forked, "python", noted)
    with pytest.raises(KeyboardInterrupt):
        each(work, ["interrupt", "sleep", *map(str, range(20))], jobs=2)
    assert set(codes) == {-signal.SIGKILL}
    ends = (f"exited with -{signal.SIGKILL.value}:\n", "was not started")
    assert all(complaint.endswith(ends) for complaint in complaints)
    assert len(begun) < 22


def test_nothing_starts_after_the_end(python):
    processes = Processes()
    processes.end()
    with pytest.raises(ProgramError, match="it was not started"):
        python("pass", processes=processes)
