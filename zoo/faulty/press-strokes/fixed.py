"""Name the tool in a press from the force over one stroke, with filters that are plain tensors."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(77)

n_points, n_channels, n_tools = 48, 20, 4
sizes = [5, 5, 3, 3, 3, 3]


def strokes(n):
    tool = torch.randint(0, n_tools, (n,))
    start = 0.2 + 0.4 * torch.rand(n, 1)
    width = 0.06 + 0.05 * tool.unsqueeze(1)
    force = torch.exp(-(((torch.linspace(0, 1, n_points) - start) / width) ** 2)) + 0.25 * torch.randn(n, n_points)
    return ((force - 0.3) / 0.45).unsqueeze(1), tool


def drawn(*shape, gain):
    return (torch.randn(shape) * gain / math.prod(shape[1:]) ** 0.5).requires_grad_()


channels = [1, *[n_channels] * len(sizes)]
filters = [drawn(n_channels, n, size, gain=1.6) for n, size in zip(channels, sizes, strict=False)]
offsets = [torch.zeros(n_channels, requires_grad=True) for _ in sizes]
readout, bias = drawn(n_tools, n_channels, gain=0.3), torch.zeros(n_tools, requires_grad=True)


def scores(x):
    for w, b in zip(filters, offsets, strict=True):
        x = F.hardswish(F.conv1d(x, w, b, padding="same"))
    return F.linear(x.mean(2), readout, bias)


x_test, y_test = strokes(2000)
optimizer = torch.optim.SGD([*filters, *offsets, readout, bias], lr=0.03, momentum=0.9)

for step in range(400):
    x, y = strokes(64)
    loss = F.cross_entropy(scores(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.cross_entropy(scores(x_test), y_test).item():.4f}")
