"""How probes are found, and how often they look."""

import torch

from unstuck.capture.probes import looks
from unstuck.capture.recorder import THOROUGH_SAMPLES
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


def test_those_that_look_seldom_are_among_those_that_look_always():
    always, thorough = looks(False), looks(True)
    assert all(set(those) <= set(thorough[op]) for op, those in always.items())
    modules = {look.__module__.rpartition(".")[2] for those in thorough.values() for look in those}
    rarer = modules - {look.__module__.rpartition(".")[2] for those in always.values() for look in those}
    assert {"data", "targets", "normalisation"} <= rarer
    assert "breaks" not in rarer  # the one NaN counts


def test_after_many_samples_one_in_eight_is_looked_at():
    w = torch.randn(4, 3, requires_grad=True, generator=torch.Generator().manual_seed(1))
    steps = THOROUGH_SAMPLES + 33
    with Session(Schedule(1)) as session:
        for _ in range(steps):
            (X @ w).square().mean().backward()
            w.data -= 0.01 * w.grad
            w.grad = None
    trace = session.trace
    (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
    assert [step for step, _ in trace.summaries(layer, Role.OUTPUT)] == list(range(steps))
    looked = [step for step, _ in trace.scalars(layer, "data_bits")]
    assert looked == [*range(THOROUGH_SAMPLES), *(s for s in range(THOROUGH_SAMPLES, steps) if (s + 1) % 8 == 0)]
