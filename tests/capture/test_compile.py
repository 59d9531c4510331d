"""`torch.compile`: sampled steps run eagerly; all others are compiled as they are when nobody watches.

Most tests use the backend "eager", which captures graphs and runs them as they are, so that compiled and eager steps
agree to the last bit.
"""

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn

from unstuck.capture.schedule import FIRST_STEPS, Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

from .compiled_programs import (
    NEVER_AGAIN,
    Net,
    X,
    Y,
    every_program,
    fresh_compiler,  # noqa: F401  (a fixture that every test here uses)
    model_compiled,
    optimizer_compiled,
    pytestmark,  # noqa: F401  (warnings that the compiler brings about itself)
    run,
    whole_step,
    with_backward,
)


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
    kinds = {Kind.PARAMETER, Kind.BACKWARD, Kind.OPTIMIZER}
    names = [(s.kind, s.path, s.op) for s in trace.sites if s.kind not in kinds]
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
