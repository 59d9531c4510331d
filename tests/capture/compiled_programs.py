"""Programs that use `torch.compile` in every way there is, and what was compiled."""

from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn
from torch._dynamo import decorators, eval_frame
from torch._dynamo.utils import counters

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session

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
