"""The compiler's stance, what stands around a compiled program, and a compiler that is imported late."""

import json
import os
import subprocess
import sys
import warnings

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch._dynamo import eval_frame

import unstuck
from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session, StopTraining
from unstuck.trace import Kind

from .compiled_programs import (
    NEVER_AGAIN,
    SCRIPT,
    Net,
    X,
    Y,
    counts,
    fresh_compiler,  # noqa: F401  (a fixture that every test here uses)
    is_sampled_now,
    model_compiled,
    pytestmark,  # noqa: F401  (warnings that the compiler brings about itself)
    run,
    whole_step,
)


class TestStance:
    def test_it_is_put_back_between_samples_and_at_the_end(self):
        stances = []

        def program(net, optimizer, backend):
            step = model_compiled(net, optimizer, backend)

            def noting():
                stances.append(is_sampled_now())
                return step()

            return noting

        run(program, every=5, steps=16)
        assert stances[1:] == [True] * 10 + [False] * 4 + [True]  # step 0 imports or finds the compiler
        assert not is_sampled_now()

    def test_after_an_exception(self):
        def fail():
            assert is_sampled_now()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), Session():
            fail()
        assert not is_sampled_now()

    def test_after_an_error_of_ours(self, monkeypatch, capsys):
        def broken(*_):
            raise RuntimeError("boom")

        monkeypatch.setattr("unstuck.capture.forward.look_after", broken)
        with Session():
            net = Net()
            step = model_compiled(net, torch.optim.SGD(net.parameters()), "eager")
            step()
            assert not is_sampled_now()
            step()
            compiled = counts()["graphs"]
            step()
        assert counts()["graphs"] == compiled >= 1
        assert "boom" in capsys.readouterr().err

    def test_after_the_step_limit_was_reached_within_a_compiled_function(self):
        net = Net()
        step = whole_step(net, torch.optim.SGD(net.parameters()), "eager")
        with Session(Schedule(NEVER_AGAIN), max_steps=14):
            for _ in range(13):
                step()
            with pytest.raises(StopTraining):
                step()

    def test_one_the_program_set_before_is_kept(self):
        with torch.compiler.set_stance("eager_on_recompile"):
            run(model_compiled, every=NEVER_AGAIN)
            assert eval_frame._stance.stance == "eager_on_recompile"

    def test_one_the_program_sets_in_a_sampled_step_counts_from_its_end(self):
        net = Net()
        step = model_compiled(net, torch.optim.SGD(net.parameters()), "eager")
        with Session(Schedule(NEVER_AGAIN)):
            step()
            with torch.compiler.set_stance("default"):
                for _ in range(FIRST_STEPS - 2):
                    step()
                assert counts()["graphs"] == 0
                step()
                assert eval_frame._stance.stance == "default"
                step()
                assert counts()["graphs"] == 1
            assert eval_frame._stance.stance == "default"

    def test_one_set_for_good_in_a_sampled_step_is_kept(self):
        before = eval_frame._stance
        try:
            with Session():
                model_compiled(Net(), torch.optim.SGD([torch.zeros(1)]), "eager")
                torch.compiler.set_stance("eager_on_recompile")
                assert is_sampled_now()
            assert eval_frame._stance.stance == "eager_on_recompile"
        finally:
            eval_frame._set_stance(before)

    def test_fail_on_recompile_around_single_steps(self):
        """As the documentation advises once a program has warmed up: sampled steps must not fail."""
        net = Net()
        step = model_compiled(net, torch.optim.SGD(net.parameters()), "eager")
        with Session(Schedule(2)) as session:
            for _ in range(FIRST_STEPS + 2):
                step()
            for _ in range(10):
                with torch.compiler.set_stance("fail_on_recompile"):
                    step()
        assert session.trace.steps[-1] == 20


class TestAround:
    def test_code_compiled_before_the_session_is_used_again(self):
        net = Net()
        step = model_compiled(net, torch.optim.SGD(net.parameters()), "eager")
        step()
        warm = counts()
        with Session(Schedule(NEVER_AGAIN)):
            for _ in range(15):
                step()
        step()
        assert warm["graphs"] == 1
        assert counts() == warm

    def test_a_compiled_whole_step_too(self):
        net = Net()
        step = whole_step(net, torch.optim.SGD(net.parameters()), "eager")
        step(), step()
        warm = counts()
        with Session(Schedule(NEVER_AGAIN)):
            for _ in range(15):
                step()
        step()
        again = counts()
        # a helper of `typing.cast`, once inlined into torch's caller of optimizer hooks, becomes a frame of its own
        assert again.pop("frames") <= warm.pop("frames") + 1
        assert again == warm

    def test_global_hooks_of_ours_bring_no_warning(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(model_compiled, steps=3)
        assert [w for w in caught if "global hooks" in str(w.message)] == []

    def test_hooks_of_the_program_on_a_compiled_module_run(self):
        seen, net = [], Net()
        model = torch.compile(net, backend="eager")
        model.register_forward_hook(lambda *_: seen.append(1))
        with Session():
            F.cross_entropy(model(X), Y).backward()
        assert seen == [1]

    def test_check_of_a_compiled_model(self):
        report = unstuck.check(torch.compile(Net(), backend="eager"), (X, Y), F.cross_entropy)
        assert [s.path for s in report.trace.of_kind(Kind.WEIGHT_LAYER)] == ["fc", "out"]
        assert counts()["graphs"] == 0

    def test_evaluation_between_steps_stays_compiled(self):
        net = Net()
        step = model_compiled(net, torch.optim.SGD(net.parameters()), "eager")
        scores = torch.compile(lambda x: net(x).argmax(1), backend="eager")
        with Session(Schedule(NEVER_AGAIN)) as session:
            for _ in range(FIRST_STEPS):
                step()
            with torch.no_grad():
                scores(X)
            assert counts()["graphs"] == 1
            step()
        assert session.steps == FIRST_STEPS + 1


class TestLateImport:
    @pytest.mark.parametrize("spelling", ["function", "decorator", "method"])
    def test_the_step_that_imports_the_compiler_is_eager_as_well(self, spelling):
        seen = self.result(spelling)
        assert seen["internal_error"] is None
        assert seen["loaded"][:2] == [False, True]
        assert seen["compiled_at"] == [FIRST_STEPS]
        assert seen["sampled"] == list(range(FIRST_STEPS))
        assert len(seen["sites"]) == 5
        assert seen["sites"][1:] == ["parameter", "tanh", "objective", "backward"]
        assert seen["steps"] == 16
        assert seen["restored"]

    def test_a_program_that_never_compiles_does_not_import_the_compiler(self):
        seen = self.result("never")
        assert not any(seen["loaded"])
        assert seen["restored"]

    def result(self, spelling):
        process = subprocess.run(
            [sys.executable, str(SCRIPT), spelling],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return json.loads(process.stdout)
