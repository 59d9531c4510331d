"""Fit a function on a curved sheet with a residual network of plain tensors."""

import torch

torch.manual_seed(407)

n_inputs, width, hidden, n_blocks = 8, 32, 64, 12
sheet = torch.randn(3, n_inputs)


def points(n):
    t = torch.randn(n, 3)
    x = torch.sin(t @ sheet) + 0.5 * t @ sheet / 3**0.5
    y = torch.sin(2 * t[:, 0]) + t[:, 1] * t[:, 2]
    return x, (y + 0.1 * torch.randn(n)) / 1.2


def normal(*shape, std):
    return (std * torch.randn(*shape)).requires_grad_()


stem = normal(n_inputs, width, std=n_inputs**-0.5)
ups = [normal(width, hidden, std=(2 / width) ** 0.5) for _ in range(n_blocks)]
downs = [normal(hidden, width, std=hidden**-0.5) for _ in range(n_blocks)]
readout = torch.zeros(width, requires_grad=True)
offset = torch.zeros(1, requires_grad=True)
parameters = [stem, *ups, *downs, readout, offset]
optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def predict(x):
    h = x @ stem
    for up, down in zip(ups, downs, strict=True):
        h = h + torch.relu(h @ up) @ down
    return h @ readout + offset


for step in range(500):
    x, y = points(64)
    loss = (predict(x) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, y = points(4000)
    print(f"final_loss {(predict(x) - y).square().mean().item():.4f}")
