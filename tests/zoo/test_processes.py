"""Programs in processes of their own: failures apart, and nothing left running."""

import signal
import subprocess
import sys
import threading

import pytest
from zoo.processes import Processes, ProgramError, each


def python(code, limit=60):
    return Processes().run([sys.executable, "-c", code], label="it", time_limit=limit)


def test_what_is_printed_comes_back():
    assert python("import os; print(os.environ['OMP_NUM_THREADS'])") == "1\n"


def test_a_program_that_fails_says_why():
    with pytest.raises(ProgramError, match="it exited with 3:\nlost"):
        python("import sys; print('lost', file=sys.stderr); sys.exit(3)")


def test_a_program_that_takes_too_long_is_ended():
    with pytest.raises(ProgramError, match=r"it took longer than 0\.2 s"):
        python("import time; time.sleep(60)", limit=0.2)


def test_results_stay_in_order_beside_failures():
    def double(item, _):
        if item % 2:
            raise ProgramError(f"odd {item}")
        return 2 * item

    assert each(double, range(5), jobs=2) == ([0, 4, 8], ["odd 1", "odd 3"])


def test_an_interrupt_kills_what_runs_and_starts_nothing_more(monkeypatch):
    started, running, begun, complaints = threading.Event(), [], [], []
    popen = subprocess.Popen

    def noted(*arguments, **options):
        running.append(popen(*arguments, **options))
        started.set()
        return running[-1]

    def work(item, processes):
        begun.append(item)
        if item == "interrupt":
            assert started.wait(60)
            raise KeyboardInterrupt
        try:
            processes.run([sys.executable, "-c", "import time; time.sleep(60)"], label=item, time_limit=60)
        except ProgramError as error:
            complaints.append(str(error))
            raise

    monkeypatch.setattr(subprocess, "Popen", noted)
    with pytest.raises(KeyboardInterrupt):
        each(work, ["interrupt", "sleep", *map(str, range(20))], jobs=2)
    assert {process.returncode for process in running} == {-signal.SIGKILL}
    ends = (f"exited with -{signal.SIGKILL.value}:\n", "was not started")
    assert all(complaint.endswith(ends) for complaint in complaints)
    assert len(begun) < 22


def test_nothing_starts_after_the_end():
    processes = Processes()
    processes.end()
    with pytest.raises(ProgramError, match="it was not started"):
        processes.run([sys.executable, "-c", "pass"], label="it", time_limit=60)
