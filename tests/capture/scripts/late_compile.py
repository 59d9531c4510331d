"""A loop by hand that imports the compiler in the middle of the first, sampled step; says what was compiled when.

Run by tests/capture/test_compile.py in a process of its own, as `late_compile.py SPELLING`.
"""

import json
import sys

import torch
from torch import nn

import unstuck

STEPS = 16


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 3), 0.1))

    def forward(self, x):
        return torch.tanh(x @ self.weight)


def main(spelling):
    compiled_at = []

    def backend(graph, _inputs):
        compiled_at.append(step)
        return graph.forward

    original, loaded = torch.compile, []
    x, net = torch.ones(5, 4), Net()
    model = net
    with unstuck.watch(every=1000) as run:
        for step in range(STEPS):
            loaded.append("torch._dynamo" in sys.modules)
            if step == 0 and spelling == "function":
                model = torch.compile(net, backend=backend)
            elif step == 0 and spelling == "decorator":
                model = torch.compile(backend=backend)(net)
            elif step == 0 and spelling == "method":
                net.compile(backend=backend)
            model(x).square().mean().backward()
            net.weight.data -= 0.1 * net.weight.grad
            net.weight.grad = None
    trace = run.session.trace
    result = {
        "internal_error": trace.facts.internal_error,
        "loaded": loaded,
        "compiled_at": compiled_at,
        "restored": torch.compile is original,
        "sampled": trace.steps,
        "sites": [s.op for s in trace.sites],
        "steps": run.session.steps,
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
