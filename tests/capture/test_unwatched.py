"""Steps between samples: counted, timed, their losses noted, and nothing else."""

import gc
import math
import os
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from unstuck.capture.loop import TrainingLoop
from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session, StopTraining
from unstuck.stats import cpu, passes

NEVER = 10**6
STEPS = 40
X = torch.eye(2)


def square(w, step):
    return (X @ w).square().sum()


def worth(w, value):
    """A loss of that value whose gradient is not zero."""
    return (X @ w - w.detach()).sum() + value


def by_optimizer(steps, loss_of=square, accumulate=1):
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.01)
    for step in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            loss_of(w, step).backward()
        optimizer.step()


def by_hand(steps, loss_of=square, accumulate=1):
    w = torch.ones(2, requires_grad=True)
    for step in range(steps):
        w.grad = None
        for _ in range(accumulate):
            loss_of(w, step).backward()
        w.data -= 0.01 * w.grad


def by_gradients(steps, loss_of=square, accumulate=1):
    w = torch.ones(2, requires_grad=True)
    for step in range(steps):
        for _ in range(accumulate):
            (gradient,) = torch.autograd.grad(loss_of(w, step), w)
        w.data -= 0.01 * gradient


loops = pytest.mark.parametrize("loop", [by_optimizer, by_hand, by_gradients])


def watched(loop, *args, every=NEVER, **kwargs):
    with Session(Schedule(every)) as session:
        loop(*args, **kwargs)
    assert session.trace.facts.internal_error is None
    return session


@pytest.fixture
def slow_events(monkeypatch):
    """The events that needed more than counting, each with the step that was under way."""
    seen = []
    for name in ("_on_backward_begins", "_on_backward_ended", "_on_update_begins", "_on_update_ended"):
        original = getattr(TrainingLoop, name)

        def noted(self, *args, _name=name, _original=original):
            seen.append((_name, self._step))
            return _original(self, *args)

        monkeypatch.setattr(TrainingLoop, name, noted)
    return seen


class TestCounting:
    @loops
    def test_is_all_that_happens(self, loop, slow_events):
        watched(loop, STEPS)
        assert {step for _, step in slow_events} == set(range(FIRST_STEPS + 1))

    @loops
    def test_ends_where_a_sample_begins(self, loop, slow_events):
        session = watched(loop, STEPS, every=15)
        assert session.trace.steps == [*range(FIRST_STEPS), 15, 30]
        late = {step for _, step in slow_events if step > FIRST_STEPS}
        assert {15, 16, 30, 31} <= late <= {14, 15, 16, 29, 30, 31}

    @loops
    def test_is_the_same_as_looking(self, loop, monkeypatch):
        fast = watched(loop, STEPS)
        for name in ("counts_backward", "counts_backward_end", "counts_update", "counts_update_end"):
            monkeypatch.setattr(Session, name, lambda *_: False)
        slow = watched(loop, STEPS)
        assert fast.steps == slow.steps == STEPS
        assert fast.trace.objective == slow.trace.objective
        assert fast.trace.facts.backward_calls == slow.trace.facts.backward_calls == STEPS
        assert fast.trace.facts.optimizer_steps == slow.trace.facts.optimizer_steps

    @loops
    @pytest.mark.parametrize("limit", [3, 25])
    def test_stops_at_the_step_limit(self, loop, limit):
        with Session(Schedule(NEVER), max_steps=limit) as session, pytest.raises(StopTraining):
            loop(STEPS)
        assert session.steps == limit
        assert sorted(session.trace.objective) == list(range(limit))


class TestLosses:
    @loops
    def test_every_one_is_noted_also_those_that_are_not_finite(self, loop):
        expected = []

        def loss_of(w, step):
            loss = worth(w, {20: math.nan, 30: math.inf}.get(step, step / 7))
            expected.append(loss.item())
            return loss

        objective = watched(loop, 32, loss_of).trace.objective
        assert list(objective) == list(range(32))
        assert str(list(objective.values())) == str(expected)
        assert math.isnan(objective[20])

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_of_every_dtype(self, dtype):
        session = watched(by_optimizer, STEPS, lambda w, step: worth(w, 3.0).to(dtype))
        assert set(session.trace.objective.values()) == {3.0}

    @pytest.mark.parametrize("loop", [by_optimizer, by_hand])
    def test_those_of_accumulated_gradients_add_up(self, loop):
        session = watched(loop, STEPS, lambda w, step: worth(w, 2.0 * step), accumulate=3)
        assert session.steps == STEPS
        assert session.trace.objective == {step: 6.0 * step for step in range(STEPS)}

    def test_accumulation_is_not_looked_into_off_samples(self, monkeypatch):
        asked = []
        with Session(Schedule(NEVER)) as session:
            parameters = session._recorder.parameters
            original = parameters.accumulating
            monkeypatch.setattr(parameters, "accumulating", lambda: asked.append(session._step) or original())
            by_optimizer(STEPS, accumulate=2)
        assert max(asked) < FIRST_STEPS

    def test_a_closure_counts_its_first(self):
        w = torch.ones(2, requires_grad=True)
        optimizer, first = torch.optim.LBFGS([w], 0.01, max_iter=3), []

        def closure():
            optimizer.zero_grad()
            loss = (w**4).sum()
            loss.backward()
            values.append(loss.item())
            return loss

        with Session(Schedule(NEVER)) as session:
            for _ in range(20):
                values = []
                optimizer.step(closure)
                first.append(values[0])
        assert list(session.trace.objective.values()) == first

    def test_the_users_function_modes_do_not_see_it_read(self):
        class Spy(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                seen.append(getattr(func, "__name__", str(func)))
                return func(*args, **(kwargs or {}))

        counts = []
        for watch in (False, True):
            seen = []
            if watch:
                with Session(Schedule(NEVER)) as session, Spy():
                    by_hand(STEPS)
                assert len(session.trace.objective) == STEPS
            else:
                with Spy():
                    by_hand(STEPS)
            counts.append([name for name in seen if name in ("item", "numel", "detach", "__float__")])
        assert counts[1] == counts[0] == []

    def test_no_loss_is_kept_alive(self):
        losses = []

        def loss_of(w, step):
            loss = (w * w).sum()
            losses.append(weakref.ref(loss))
            return loss

        with Session(Schedule(NEVER)):
            by_optimizer(STEPS, loss_of)
            gc.collect()
            assert [ref() for ref in losses] == [None] * STEPS


class TestSeveralOptimizers:
    def test_one_after_the_other_are_one_step(self):
        a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
        optimizers = [torch.optim.SGD([p], 0.01) for p in (a, b)]

        def loop():
            for _ in range(STEPS):
                a.grad = b.grad = None
                (a * b).sum().backward()
                for optimizer in optimizers:
                    optimizer.step()

        session = watched(loop, every=15)
        assert session.steps == STEPS
        assert session.trace.facts.optimizer_steps == 2 * STEPS
        assert session.trace.steps == [*range(FIRST_STEPS), 15, 30]


class TestOthers:
    def test_other_threads_are_told_not_counted(self):
        def loop():
            by_optimizer(20)
            thread = threading.Thread(target=by_optimizer, args=(5,))
            thread.start()
            thread.join()
            by_optimizer(20)

        session = watched(loop)
        assert session.steps == 40
        assert session.trace.facts.backward_calls == 40
        assert session.trace.facts.other_threads

    def test_a_thread_that_trains_while_ours_is_in_backward_hides_no_step_of_ours(self):
        begun, done = threading.Event(), threading.Event()

        def wait(_):
            begun.set()
            done.wait(10)

        def other():
            w = torch.ones(2, requires_grad=True)
            w.register_hook(wait)
            (w * w).sum().backward()

        with Session(Schedule(NEVER)) as session:
            thread = threading.Thread(target=other)
            thread.start()
            assert begun.wait(10)
            by_optimizer(30)
            done.set()
            thread.join()
        assert session.steps == 30

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
    def test_a_fork_is_not_watched(self):
        with Session(Schedule(NEVER)) as session:
            by_optimizer(20)
            child = os.fork()
            if not child:
                by_hand(5)
                unwatched = session.steps == 20 and session.trace.facts.backward_calls == 20
                os._exit(0 if unwatched else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            by_optimizer(20)
        assert session.steps == 40


class TestOurOwnErrors:
    @loops
    @pytest.mark.parametrize("broken", ["unstuck.capture.unwatched._read", "unstuck.capture.ledger.Ledger.plain"])
    def test_training_goes_on_and_it_is_said_once(self, loop, broken, monkeypatch, capsys):
        def fails(*_):
            raise RuntimeError("boom")

        with Session(Schedule(NEVER)) as session:
            loop(20)
            monkeypatch.setattr(broken, fails)
            loop(100)
        said = capsys.readouterr().err
        assert said.startswith(
            "unstuck: internal error, watching ends here and the training goes on: RuntimeError: boom"
        )
        assert said.count("\n") == 1
        assert session.trace.facts.internal_error.startswith("RuntimeError: boom")
        assert 20 <= session.steps < 120

    @loops
    def test_the_users_own_error_is_theirs(self, loop):
        def loss_of(w, step):
            loss = (w * w).sum()
            if step == 20:
                loss.backward()
            return loss

        with Session(Schedule(NEVER)) as session, pytest.raises(RuntimeError, match="second time"):
            loop(STEPS, loss_of)
        assert session.trace.facts.internal_error is None


class TestTime:
    def test_what_loading_takes_is_apart(self, monkeypatch):
        monkeypatch.setattr("unstuck.capture.session._load_kernels", lambda: time.sleep(0.2))
        session = watched(by_hand, 3)
        assert 0.2 <= session.trace.facts.watching.loading_seconds < 2.0
        assert session.trace.facts.watching.seconds < 0.2

    def test_so_is_what_another_dtype_takes_later(self, monkeypatch):
        summarise = passes.summarise_table
        slept = []

        def table(like, *rest):
            if like.dtype == np.uint16 and not slept:
                slept.append(time.sleep(0.3))  # as long as numba may take to compile it
            return summarise(like, *rest)

        monkeypatch.setattr(passes, "summarise_table", table)
        monkeypatch.setattr(cpu, "_used", set())
        x = torch.ones(2, 4, dtype=torch.bfloat16)
        half = torch.ones(4, 3, dtype=torch.bfloat16, requires_grad=True)
        session = watched(by_hand, 3, lambda w, _: (w * (x @ half).mean().float()).sum())
        assert slept
        assert session.loading_seconds >= 0.3
        assert session.seconds < 0.3
        assert session.trace.facts.watching.seconds < 0.3

    def test_what_cannot_be_loaded_ends_the_watching(self, monkeypatch, capsys):
        def fails():
            raise ImportError("no kernels")

        clean = torch.autograd.backward
        monkeypatch.setattr("unstuck.capture.session._load_kernels", fails)
        with Session() as session:
            by_hand(3)
        assert capsys.readouterr().err.startswith("unstuck: internal error")
        assert session.trace.facts.internal_error.startswith("ImportError: no kernels")
        assert torch.autograd.backward is clean

    @loops
    def test_every_step_is_timed_once(self, loop):
        watching = watched(loop, STEPS, every=15).trace.facts.watching
        assert (watching.steps, watching.sampled) == (STEPS, 12)

    def test_what_comes_before_the_training_is_none(self):
        with Session(Schedule(NEVER)) as session:
            time.sleep(0.3)
            by_optimizer(20, lambda w, step: (time.sleep(0.005), square(w, step))[1])
        assert 0.09 < session.trace.facts.watching.training_seconds < 0.29

    def test_guarded_code_within_guarded_code_is_counted_once(self):
        with Session(Schedule(NEVER)) as session:
            before = session.seconds
            session._guard(lambda: session._guard(time.sleep, 0.1))
            assert 0.1 <= session.seconds - before < 0.19

    def test_accumulated_passes_are_one_step(self):
        watching = watched(by_hand, STEPS, every=15, accumulate=3).trace.facts.watching
        assert watching.steps in (STEPS, STEPS + 1)

    def test_the_budget_holds_in_earnest(self):
        """A thousand steps of 2 ms at 30 %, by the ledger's own account; far from the limit on any machine."""
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        x = torch.ones(4, 8)
        with Session(Schedule(overhead=0.3)) as session:
            for _ in range(1_000):
                time.sleep(0.002)
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
        watching = session.trace.facts.watching
        assert watching.share < 0.3
        assert watching.sampled > watching.guaranteed > 30
