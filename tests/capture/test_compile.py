"""`torch.compile`: sampled steps run eagerly; all others are compiled as they are when nobody watches.

Most tests use the backend "eager", which captures graphs and runs them as they are, so that compiled and eager steps
agree to the last bit.
"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn
from torch._dynamo import decorators, eval_frame
from torch._dynamo.utils import counters

import unstuck
from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session, StopTraining
from unstuck.trace import Kind, Role

SCRIPT = Path(__file__).parent / "scripts" / "late_compile.py"
X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))
NEVER_AGAIN = 1000  # sample no step after the first ten

pytestmark = [  # warnings that the compiler brings about itself, watched or not
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.drop(torch.tanh(self.fc(x))))


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Start without compiled code, and leave the compiler as it was."""
    torch._dynamo.reset()
    counters.clear()
    before = touched()
    yield
    assert touched() == before
    torch._dynamo.reset()


def touched():
    """Everything of the compiler's that a session changes for a while."""
    return (
        torch.compile,
        eval_frame._stance,
        eval_frame._maybe_set_eval_frame,
        eval_frame.OptimizedModule.__call__,
        decorators._set_stance,
    )


def counts():
    """What the compiler has done so far: frames, graphs, captured calls, graph breaks."""
    return {
        "frames": counters["frames"]["ok"],
        "graphs": counters["stats"]["unique_graphs"],
        "calls": counters["stats"]["calls_captured"],
        "breaks": sum(counters["graph_break"].values()),
    }


# -- programs: each returns a function that makes one step and returns its loss ----------------------------------------


def model_compiled(net, optimizer, backend):
    model = torch.compile(net, backend=backend)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def compiled_in_place(net, optimizer, backend):
    net.compile(backend=backend)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def decorated_loss(net, optimizer, backend):
    @torch.compile(backend=backend, fullgraph=True)
    def loss_of(x, y):
        return F.cross_entropy(net(x), y)

    def step():
        optimizer.zero_grad()
        loss = loss_of(X, Y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def submodule_compiled(net, optimizer, backend):
    net.fc = torch.compile(net.fc, backend=backend)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def with_backward(net, optimizer, backend):
    @torch.compile(backend=backend)
    def forward_and_backward(x, y):
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss.detach()

    def step():
        optimizer.zero_grad()
        loss = forward_and_backward(X, Y)
        optimizer.step()
        return loss

    return step


def with_autograd_backward(net, optimizer, backend):
    @torch.compile(backend=backend)
    def forward_and_backward(x, y):
        loss = F.cross_entropy(net(x), y)
        torch.autograd.backward(loss)
        return loss.detach()

    def step():
        optimizer.zero_grad()
        loss = forward_and_backward(X, Y)
        optimizer.step()
        return loss

    return step


def whole_step(net, optimizer, backend):
    @torch.compile(backend=backend)
    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def update_by_hand(net, _optimizer, backend):
    @torch.compile(backend=backend)
    def forward_backward_update():
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
        return loss.detach()

    def step():
        net.zero_grad()  # outside: dynamo loses `parameter.grad = None`, watched or not
        return forward_backward_update()

    return step


def optimizer_compiled(net, optimizer, backend):
    update = torch.compile(lambda: optimizer.step(), backend=backend)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        loss.backward()
        update()
        return loss

    return step


PROGRAMS = [
    model_compiled,
    compiled_in_place,
    decorated_loss,
    submodule_compiled,
    with_backward,
    with_autograd_backward,
    whole_step,
    update_by_hand,
    optimizer_compiled,
]
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)


def run(
    program, *, every=None, watch=True, steps=30, backend="eager", optimizer=torch.optim.SGD, mark=None, inside=True
):
    """Train; return the session, losses, the network, and the compiler's counts after `mark` steps and at the end."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    net = Net()
    session = Session(Schedule(every))
    step = None if inside else program(net, optimizer(net.parameters(), lr=0.1), backend)
    losses, marked = [], None
    if watch:
        session.start()
    try:
        step = step or program(net, optimizer(net.parameters(), lr=0.1), backend)
        for n in range(steps):
            if n == mark:
                marked = counts()
            losses.append(step().item())
    finally:
        session.stop()
    assert session.trace.facts.internal_error is None
    return session, losses, net, marked, counts()


def is_sampled_now():
    return eval_frame._stance.stance == "force_eager"


@every_program
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "before"])
def test_no_more_is_compiled_than_without_watching(program, inside):
    _, bare, _, _, unwatched = run(program, watch=False)
    session, watched, _, at_ten, at_end = run(program, every=NEVER_AGAIN, mark=FIRST_STEPS, inside=inside)
    assert session.steps == 30
    assert session.trace.steps == list(range(FIRST_STEPS))
    assert watched == bare
    assert at_ten == dict.fromkeys(at_ten, 0)
    assert (at_end["graphs"], at_end["calls"]) == (unwatched["graphs"], unwatched["calls"])
    # torch's own caller of optimizer hooks, which computes nothing, is not compiled while we watch
    assert at_end["frames"] <= unwatched["frames"]
    assert at_end["breaks"] <= unwatched["breaks"]
    if program not in (whole_step, optimizer_compiled):
        assert at_end == unwatched


@every_program
@pytest.mark.parametrize("every", [1, 3, 7])
def test_sampled_and_compiled_steps_alternate(program, every):
    _, bare, expected, _, _ = run(program, watch=False, steps=40)
    session, watched, got, warm, at_end = run(program, every=every, steps=40, mark=14)
    wanted = Schedule(every)
    assert session.trace.steps == [step for step in range(40) if wanted.is_sampled(step)]
    assert watched == bare
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), got.parameters(), strict=True))
    assert at_end == warm
    assert (at_end["graphs"] == 0) == (every == 1)


@every_program
def test_sampled_steps_show_what_an_eager_program_shows(program):
    session = run(program, every=5, steps=12)[0]
    trace = session.trace
    names = [(s.kind, s.path, s.op) for s in trace.sites if s.kind is not Kind.PARAMETER]
    assert names == [
        (Kind.WEIGHT_LAYER, "fc", "linear"),
        (Kind.ACTIVATION, "", "tanh"),
        (Kind.DROPOUT, "drop", "dropout"),
        (Kind.WEIGHT_LAYER, "out", "linear"),
        (Kind.LOSS, "", "cross_entropy"),
    ]
    parameters = {s.path for s in trace.of_kind(Kind.PARAMETER)}
    assert parameters == {"fc.weight", "fc.bias", "out.weight", "out.bias"}
    for layer in trace.of_kind(Kind.WEIGHT_LAYER):
        for step in (0, 9, 10):
            assert trace.summary(layer, Role.OUTPUT, step).count == 16 * (8 if layer.path == "fc" else 3)
            assert trace.summary(layer, Role.OUTPUT_GRADIENT, step).count == 16 * (8 if layer.path == "fc" else 3)
    for parameter in trace.of_kind(Kind.PARAMETER):
        gradient, update = (trace.summary(parameter, role, 10).norm for role in (Role.GRADIENT, Role.UPDATE))
        assert update == pytest.approx(0.1 * gradient, rel=1e-3)


@pytest.mark.parametrize("program", [model_compiled, with_backward])
def test_aot_eager_is_bit_identical_too(program):
    bare = run(program, watch=False, backend="aot_eager")[1]
    assert run(program, every=7, backend="aot_eager")[1] == bare


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor(mode):
    """Compiled steps start from parameters that eager steps made, so losses agree closely, not to the last bit.

    On a CPU "reduce-overhead" has no CUDA graphs to use and does what "default" does.
    """

    def program(net, optimizer, _backend):
        net.drop = nn.Identity()
        model = torch.compile(net, mode=mode)

        def step():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    _, bare, _, _, unwatched = run(program, watch=False)
    session, watched, _, _, at_end = run(program, every=NEVER_AGAIN)
    assert session.trace.steps == list(range(FIRST_STEPS))
    assert watched == pytest.approx(bare, rel=1e-5)
    assert at_end == unwatched


@pytest.mark.slow
def test_unsampled_steps_of_inductor_are_bit_equal_given_the_same_parameters():
    """From the same parameters on, a compiled step gives the same bits whether or not somebody watches."""

    def losses(watch):
        torch._dynamo.reset()
        torch.manual_seed(0)
        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        step = whole_step(net, optimizer, "inductor")
        start = {name: value.clone() for name, value in net.state_dict().items()}
        session = Session(Schedule(NEVER_AGAIN))
        if watch:
            session.start()
        try:
            for _ in range(FIRST_STEPS + 1):
                step()
            with torch.no_grad():
                for name, value in net.state_dict().items():
                    value.copy_(start[name])
            torch.manual_seed(1)
            return [step().item() for _ in range(10)]
        finally:
            session.stop()

    assert losses(watch=True) == losses(watch=False)


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
        assert counts()["graphs"] == 1
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
        assert len(seen["sites"]) == 4
        assert seen["sites"][1:] == ["parameter", "tanh", "objective"]
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
