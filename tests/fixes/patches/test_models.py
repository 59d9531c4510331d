from textwrap import dedent

import libcst as cst
import pytest

from unstuck.fixes.patches.flow import Flow
from unstuck.fixes.patches.models import Models
from unstuck.fixes.patches.source import Source, dotted

HEAD = "import torch\nimport torch.nn as nn\nfrom models import build, Net\n"


def models_of(text):
    source = Source(HEAD + dedent(text))
    return source, Models(source, Flow(source))


def networks(text):
    source, models = models_of(text)
    targets = [target.target for target in source.find(cst.AssignTarget)]
    return [dotted(target) for target in targets if models.is_network(target)]


@pytest.mark.parametrize(
    "text",
    [
        "loss = nn.MSELoss()",
        "p = nn.Parameter(torch.zeros(3))",
        "x = torch.zeros(3)",
        "class Plain:\n    pass\n\nplain = Plain()",
        "class Odd(object):\n    def forward(self):\n        pass\n\nodd = Odd()",
        "unknown = build()",
    ],
)
def test_no_networks(text):
    assert networks(text) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("net = nn.Sequential(nn.Linear(1, 1))", ["net"]),
        ("class Own(nn.Module):\n    pass\n\nnet = Own().to('cpu')", ["net"]),
        ("net = build()\noptimizer = torch.optim.SGD(net.parameters(), lr=1)", ["net"]),
        ("net = build()\nnet.eval()", ["net"]),
        ("a = nn.Linear(1, 1)\nb = torch.compile(a)\nc = nn.DataParallel(b)", ["a", "b", "c"]),
        ("a = nn.Linear(1, 1)\na, optimizer = accelerator.prepare(a, make())\n", ["a"]),
        ("class T:\n    def __init__(self, m):\n        self.m = m\n\nt = T(nn.Linear(1, 1))", ["self.m"]),
        ("def f(m: nn.Module):\n    other = m", ["other"]),
        ("def f(m):\n    other = m\n\nf(1)", []),
    ],
)
def test_networks(text, names):
    assert [name for name in networks(text) if name] == names


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("def run(net):\n    return len(net.parameters())", []),
        ("def run(x):\n    return torch.sin(x)", []),
        ("def run(x):\n    return net(x)", ["net"]),
        ("def run(x):\n    return net.generate(x)", ["net"]),
        ("def run(x):\n    return helper(net, x)\n\ndef helper(m, x):\n    return m(x)", ["net"]),
        ("def run(x):\n    return helper(x)\n\ndef helper(x):\n    return net(x)", ["net"]),
        ("def run(x):\n    return helper(x)\n\ndef helper(x):\n    own = nn.Linear(1, 1)\n    return own(x)", []),
        ("def run(x):\n    return elsewhere(net, x)", ["net"]),
        ("class Own(nn.Module):\n    def run(self, x):\n        return self.inner(x) + self(x)", ["self"]),
    ],
)
def test_what_a_function_runs(text, runs):
    source, models = models_of("net = nn.Linear(1, 1)\n" + text)
    (function,) = [found for found in source.find(cst.FunctionDef) if found.name.value == "run"]
    assert models.run_by(function.body) == runs
