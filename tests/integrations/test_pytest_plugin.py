"""The plugin in a pytest of its own, as a user has it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.integrations.pytest_plugin import _named

pytest.importorskip("vl_convert", reason="loaded here, since it cannot be loaded twice")
pytest.importorskip("torch._inductor.test_operators", reason="the same; sampled steps load it")
pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "neighbours" / "test_with_pytest.py"
BAD = "test_with_pytest.py::test_one_with_an_overconfident_start"


@pytest.fixture
def example(pytester):
    pytester.makepyfile(test_with_pytest=EXAMPLE.read_text(encoding="utf-8"))
    return pytester


def test_a_pytest_that_does_not_ask_loads_no_torch(pytester):
    pytester.makepyfile("import sys\ndef test(): assert 'torch' not in sys.modules and 'unstuck' not in sys.modules")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:jaxtyping", "-p", "no:cacheprovider", "-q"],
        capture_output=True,
        text=True,
        cwd=pytester.path,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_failing_test_prints_the_findings_and_none_of_our_frames(example):
    done = example.runpytest_inprocess("-p", "no:randomly")
    done.assert_outcomes(passed=1, failed=1)
    said = done.stdout.str()
    assert "E       AssertionError: the network is not ready to train" in said
    assert "L001 overconfident-start" in said
    assert "remedy: shrink-output-layer" in said
    for internal in ("trainable.py", "pytest_plugin.py", "unstuck/api.py", "session.py"):
        assert internal not in said
    assert "networks checked" not in said  # nobody asked for reports


def test_reports_are_written_and_summed_up(example):
    done = example.runpytest_inprocess("--unstuck-report", "reports")
    done.stdout.fnmatch_lines(
        [
            "*= unstuck: 2 networks checked =*",
            "test_with_pytest.py::test_a_network_is_ready_to_train: no fault found; report: reports/*",
            f"{BAD}: L001 overconfident-start*; report: reports/*",
        ]
    )
    report = json.loads((example.path / "reports" / BAD.replace("::", "-") / "report.json").read_text())
    assert not report["ok"]
    assert report["causes"][0]["root"]["code"] == "L001"


@pytest.mark.slow
def test_with_tests_in_several_processes_too(example):
    pytest.importorskip("xdist")
    done = example.runpytest_subprocess("--unstuck-report", "reports", "-n", "2")
    done.stdout.fnmatch_lines(["*= unstuck: 2 networks checked =*"])


def test_several_networks_in_one_test_have_a_folder_each(pytester):
    pytester.makepyfile(
        """
        import torch
        from torch import nn
        from torch.nn.functional import mse_loss

        def test_two(trainable):
            for _ in range(2):
                trainable(nn.Linear(4, 1), (torch.randn(32, 4), torch.randn(32, 1)), mse_loss)
            assert len(trainable.reports) == 2
        """
    )
    done = pytester.runpytest_inprocess("--unstuck-report", "reports")
    done.assert_outcomes(passed=1)
    (folder,) = (pytester.path / "reports").iterdir()
    assert (folder / "report.json").exists()
    assert (folder / "2" / "report.json").exists()


@pytest.mark.parametrize(
    ("call", "message", "last"),
    [
        ("trainable(nn.Linear(3, 1), BATCH, mse_loss)", "RuntimeError: mat1 and mat2 shapes cannot", "linear.py"),
        ("unstuck.assert_trainable(nn.Linear(3, 1), BATCH, mse_loss)", "RuntimeError: mat1 and mat2", "linear.py"),
        ("trainable(nn.Linear(4, 1), BATCH[0], mse_loss)", "ValueError: batch must be a pair", "test_wrong.py"),
        (
            "trainable(nn.Linear(4, 1), BATCH, mse_loss, steps=0)",
            "ValueError: steps must be at least 1",
            "test_wrong.py",
        ),
        ("trainable(nn.Linear(4, 1), BATCH, mse_loss, ignore=['Q9'])", "UnknownRuleError: no rule", "test_wrong.py"),
        ("trainable(Own(), BATCH, mse_loss)", "ZeroDivisionError", "test_wrong.py"),
    ],
)
def test_an_error_of_the_network_or_of_an_argument_shows_none_of_our_frames(pytester, call, message, last):
    pytester.makepyfile(
        test_wrong=f"""
        import torch
        import unstuck
        from torch import nn
        from torch.nn.functional import mse_loss

        BATCH = torch.randn(32, 4), torch.randn(32, 1)

        class Own(nn.Module):
            def forward(self, x):
                return x / (1 // 0)

        def test_it(trainable):
            {call}
        """
    )
    done = pytester.runpytest_inprocess()
    done.assert_outcomes(failed=1)
    said = done.stdout.str()
    assert message in said
    assert f"{last}:" in said.split("test session starts")[1].split("short test summary")[0].splitlines()[-2]
    for internal in ("trainable.py", "unstuck/api.py", "task.py", "forward.py", "catalogue.py"):
        assert internal not in said


def test_folders_of_reports_differ_where_tests_do():
    ids = ["a.py::t", "a.py::t[1.0]", "a.py::t[1-0]", "a.py::t[1/0]", "a.py::t[1:0]", "a.py::t[1 0]"]
    ids += [f"a.py::t[{'x' * 300}]", f"a.py::t[{'x' * 301}]"]
    names = [_named(test) for test in ids]
    assert names[:3] == ["a.py-t", "a.py-t-1.0", "a.py-t-1-0"]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 200
