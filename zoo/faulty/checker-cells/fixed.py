"""Tell the colour of a bent checkerboard at a point with a deep stack of tanh layers."""

import torch
import torch.nn.functional as F

torch.manual_seed(59)

width, depth, gain = 32, 17, 1.05


def board(n):
    x = 2 * torch.rand(n, 2) - 1
    bend = x[:, 1] + 0.3 * torch.sin(3 * x[:, 0])
    colour = (torch.sin(4 * x[:, 0]) * torch.sin(4 * bend) > 0).float()
    return x * 3**0.5, colour


sizes = [width] * depth
weights = [gain * torch.nn.init.orthogonal_(torch.empty(a, b)) for a, b in zip([2, *sizes], sizes, strict=False)]
biases = [torch.zeros(n) for n in sizes]
weights.append(0.1 * torch.randn(width, 1))
biases.append(torch.zeros(1))
for p in [*weights, *biases]:
    p.requires_grad_(True)


def network(x):
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.tanh(torch.addmm(b, x, w))
    return (x @ weights[-1] + biases[-1]).squeeze(1)


optimizer = torch.optim.SGD([*weights, *biases], lr=0.02, momentum=0.9, nesterov=True)
for step in range(500):
    x, colour = board(64)
    loss = F.binary_cross_entropy_with_logits(network(x), colour)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, colour = board(4000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(network(x), colour).item():.4f}")
