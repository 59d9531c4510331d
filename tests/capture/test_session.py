"""Steps, updates, and that everything is undone; numbers against those worked out by hand."""

import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import unstuck
from unstuck.capture.forward import CaptureMode
from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session, SessionError, StopTraining
from unstuck.trace import Kind, Role

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))


def hooks_and_patches():
    """Everything a session touches, to compare before and after."""
    return (
        torch.autograd.backward,
        torch.Tensor.backward,
        nn.Module.load_state_dict,
        torch.optim.Optimizer.load_state_dict,
        dict(torch_module._global_forward_hooks),
        dict(torch_module._global_forward_pre_hooks),
        dict(torch_optimizer._global_optimizer_pre_hooks),
        dict(torch_optimizer._global_optimizer_post_hooks),
        list(_get_current_function_mode_stack()),
    )


@pytest.fixture(autouse=True)
def nothing_left():
    before = hooks_and_patches()
    yield
    assert hooks_and_patches() == before


def raw_loop(steps, lr=0.1, seed=2):
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    for _ in range(steps):
        loss = F.cross_entropy(X @ w, Y)
        w.grad = None
        loss.backward()
        w.data += -lr * w.grad


def optimizer_loop(steps, accumulate=1, lr=0.1):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            (F.cross_entropy(model(X), Y) / accumulate).backward()
        optimizer.step()


class TestSteps:
    @pytest.mark.parametrize("loop", [raw_loop, optimizer_loop])
    @pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 30])
    def test_one_update_is_one_step(self, loop, steps):
        with Session() as session:
            loop(steps)
        assert session.steps == steps
        assert sorted(session.trace.objective) == list(range(steps))
        assert session.trace.steps[:FIRST_STEPS] == list(range(min(steps, FIRST_STEPS)))

    def test_accumulated_gradients_are_one_step(self):
        with Session() as session:
            optimizer_loop(12, accumulate=3)
        assert session.steps == 12
        assert session.trace.facts.backward_calls == 36
        (layer,) = session.trace.of_kind(Kind.WEIGHT_LAYER)
        assert session.trace.summary(layer, Role.OUTPUT, 10).count == 3 * 16 * 3

    def test_two_optimizers_in_one_step(self):
        a, b = nn.Linear(4, 4), nn.Linear(4, 3)
        optimizers = [torch.optim.SGD(a.parameters(), 0.1), torch.optim.SGD(b.parameters(), 0.2)]
        with Session() as session:
            for _ in range(5):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                F.cross_entropy(b(a(X)), Y).backward()
                for optimizer in optimizers:
                    optimizer.step()
        assert session.steps == 5

    def test_a_loop_that_never_trains(self):
        with Session() as session:
            nn.Linear(4, 3)(X)
        assert (session.steps, session.trace.facts.backward_calls) == (0, 0)

    @pytest.mark.parametrize("loop", [raw_loop, optimizer_loop])
    def test_the_step_limit_stops_the_loop(self, loop):
        with Session(max_steps=7) as session, pytest.raises(StopTraining):
            loop(100)
        assert session.steps == 7
        assert session.trace.facts.backward_calls == 7

    def test_check_without_update(self):
        with Session() as session:
            F.cross_entropy(nn.Linear(4, 3)(X), Y).backward()
        assert session.steps == 1


class TestUpdates:
    @pytest.mark.parametrize("loop", [raw_loop, optimizer_loop])
    def test_sgd_updates_are_minus_lr_times_gradient(self, loop):
        with Session() as session:
            loop(4, lr=0.25)  # the weights of a loop by hand are gone before the last update could be measured
        trace = session.trace
        for parameter in trace.of_kind(Kind.PARAMETER):
            for step in range(3):
                update, gradient = (trace.summary(parameter, role, step) for role in (Role.UPDATE, Role.GRADIENT))
                assert update.norm == pytest.approx(0.25 * gradient.norm, rel=1e-4)

    def test_value_is_the_one_before_the_update(self):
        w = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
        with Session() as session:
            raw_loop(2)
        (parameter,) = session.trace.of_kind(Kind.PARAMETER)
        assert session.trace.summary(parameter, Role.VALUE, 0).norm == pytest.approx(w.double().norm().item())

    def test_identical_units_at_start(self):
        w = torch.ones(4, 3).requires_grad_()
        with Session() as session:
            torch.tanh(X @ w).sum().backward()
        (parameter,) = session.trace.of_kind(Kind.PARAMETER)
        assert session.trace.scalar(parameter, "identical_units") == 3
        assert session.trace.scalar(parameter, "identical_gradient_units") == 3

    def test_loaded_weights_are_noted(self):
        model = nn.Linear(4, 3)
        with Session() as session:
            model.load_state_dict(model.state_dict())
        assert session.trace.facts.weights_loaded


class TestUndone:
    def test_after_an_exception(self):
        def fails():
            raw_loop(3)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), Session():
            fails()

    def test_while_a_mode_of_the_user_is_on(self):
        class Own(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return func(*args, **(kwargs or {}))

        session = Session()
        with Own() as own:
            session.start()
            raw_loop(2)
            assert _get_current_function_mode_stack()[-1] is own
            session.stop()

    def test_a_mode_of_the_user_that_begins_inside_and_ends_outside_a_sampled_step(self):
        w = torch.randn(4, 3).requires_grad_()
        with Session(Schedule(every=1000)) as session:
            for step in range(14):
                with torch.device("cpu"):
                    loss = F.cross_entropy(X @ w, Y)
                    loss.backward()
                w.data += -0.1 * w.grad
                w.grad = None
                modes = [type(mode) for mode in _get_current_function_mode_stack()]
                assert modes == ([CaptureMode] if step < FIRST_STEPS - 1 else [])
        assert session.steps == 14

    def test_the_users_hooks_survive(self):
        model, seen = nn.Linear(4, 3), []
        model.register_forward_hook(lambda *_: seen.append("forward"))
        model.register_full_backward_hook(lambda *_: seen.append("backward"))
        with Session():
            F.cross_entropy(model(X.clone().requires_grad_()), Y).backward()
        F.cross_entropy(model(X.clone().requires_grad_()), Y).backward()
        assert seen == ["forward", "backward"] * 2

    def test_off_sample_steps_carry_no_mode_and_no_module_hooks(self):
        clean = hooks_and_patches()
        with Session() as session:
            optimizer_loop(41)
            assert not session.schedule.is_sampled(41)
            assert hooks_and_patches()[4:6] == clean[4:6]
            assert _get_current_function_mode_stack() == []

    def test_no_graph_outlives_the_step(self):
        class Token:
            pass

        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.token = Token()
                alive.add(ctx.token)
                return 2 * x

            @staticmethod
            def backward(ctx, grad):
                return 2 * grad

        alive = weakref.WeakSet()
        w = torch.randn(4, 3).requires_grad_()
        with unstuck.watch(unsafe_fixes=True):
            for _ in range(12):
                loss = F.cross_entropy(torch.tanh(Double.apply(X @ w)), Y)
                assert len(alive) == 1
                loss.backward()
                w.data += -0.1 * w.grad
                del loss
                assert len(alive) == 0

    def test_no_local_variable_of_the_program_is_kept_alive(self):
        def loop():
            for _ in range(3):
                w = torch.randn(4, 3).requires_grad_()
                h = torch.tanh(X @ w)
                seen.append((weakref.ref(w), weakref.ref(h)))
                h.sum().backward()
                del w, h
                assert [ref() for pair in seen for ref in pair if ref() is not None] == []

        seen = []
        with Session():
            loop()


class TestOneSession:
    def test_nested_sessions_are_refused(self):
        with Session(), pytest.raises(SessionError, match="another unstuck session is running; end it first"):
            Session().start()

    def test_a_second_one_may_follow(self):
        for _ in range(2):
            with Session() as session:
                raw_loop(2)
            assert session.steps == 2

    def test_other_threads_are_left_alone(self):
        with Session() as session:
            thread = threading.Thread(target=raw_loop, args=(3,))
            thread.start()
            thread.join()
            raw_loop(2)
        assert session.trace.facts.backward_calls == 2


class TestOurOwnErrors:
    def test_training_goes_on_and_it_is_said_once(self, monkeypatch, capsys):
        calls = []

        def broken(*_):
            calls.append(1)
            raise RuntimeError("boom")

        monkeypatch.setattr("unstuck.capture.forward.look_after", broken)
        with Session() as session:
            raw_loop(5)
        assert len(calls) == 1
        said = capsys.readouterr().err
        assert said.startswith(
            "unstuck: internal error, watching ends here and the training goes on: RuntimeError: boom"
        )
        assert said.count("\n") == 1
        assert session.trace.facts.internal_error.startswith("RuntimeError: boom")

    def test_the_users_own_error_is_theirs(self):
        w = torch.randn(4, 3).requires_grad_()
        with pytest.raises(RuntimeError, match="mat1 and mat2"), Session() as session:
            X.T @ w
        assert session.trace.facts.internal_error is None


def train_raw(record):
    g = torch.Generator().manual_seed(5)
    w1, b1, w2 = (torch.randn(*shape, generator=g).requires_grad_() for shape in [(4, 20), (20,), (20, 3)])
    for _ in range(60):
        rows = torch.randint(0, 16, (8,), generator=g)
        loss = F.cross_entropy(torch.tanh(X[rows] @ w1 + b1) @ w2, Y[rows])
        for p in (w1, b1, w2):
            p.grad = None
        loss.backward()
        for p in (w1, b1, w2):
            p.data += -0.1 * p.grad
        record(loss)
    return [w1, b1, w2]


def train_module(record):
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(4, 20), nn.BatchNorm1d(20), nn.ReLU(inplace=True), nn.Linear(20, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        optimizer.step()
        record(loss)
    return [*model.parameters(), *model.buffers()]


def train_adam_dropout(record):
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(4, 20), nn.GELU(), nn.Dropout(0.3), nn.Linear(20, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        rows = torch.randint(0, 16, (8,))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X[rows]), Y[rows])
        loss.backward()
        optimizer.step()
        record(loss)
    return list(model.parameters())


@pytest.mark.parametrize("train", [train_raw, train_module, train_adam_dropout])
@pytest.mark.parametrize("every", [None, 1, 7])
def test_losses_parameters_and_random_numbers_are_bit_identical(train, every):
    bare, watched = [], []
    torch.manual_seed(0)
    expected = train(lambda loss: bare.append(loss.item()))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    with unstuck.watch(every=every) as run:
        got = train(lambda loss: watched.append(loss.item()))
    assert run.session.trace.facts.internal_error is None
    assert watched == bare
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_which_modules_were_called_themselves():
    whole, parts, unused = (nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(3))
    with Session() as session:
        (whole(torch.ones(1, 2)) + parts[1](parts[0](torch.ones(1, 2)))).sum().backward()
    assert [session.has_run(module) for module in (whole, whole[0], parts[0])] == [True] * 3
    assert [session.has_run(module) for module in (parts, unused, unused[0])] == [False] * 3


@pytest.mark.parametrize("by_hand", [True, False])
def test_it_says_when_a_sampled_step_is_over(by_hand):
    w = torch.zeros(4, 3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    heard = []
    session = Session(Schedule(every=20))
    session.when_sampled = lambda: heard.append((session.steps, len(session.trace.objective)))
    with session:
        for _ in range(50):
            w.grad = None
            F.cross_entropy(X @ w, Y).backward()
            if by_hand:
                w.data -= 0.1 * w.grad
            else:
                optimizer.step()
    assert dict.fromkeys(steps for steps, _ in heard) == dict.fromkeys(step + 1 for step in session.trace.steps)
    assert all(steps == losses for steps, losses in heard)
