"""The potential of three masses in the plane, learned by a small network written with bare tensors."""

import torch

g = torch.manual_seed(8)
masses = torch.tensor([[0.5, 0.4, 1.0], [-0.6, 0.1, 0.7], [0.1, -0.7, 0.5]])


def potential(xy):
    offsets = xy[:, None, :] - masses[None, :, :2]
    return -(masses[:, 2] / (offsets.square().sum(-1) + 0.15).sqrt()).sum(1, keepdim=True)


def points(n):
    xy = 2 * torch.rand(n, 2, generator=g) - 1
    return xy / 0.577, potential(xy)


weights, biases = [], []
for fan_in, fan_out in [(2, 128), (128, 128), (128, 1)]:
    w = torch.randn(fan_in, fan_out, generator=g)
    weights.append(w.requires_grad_())
    biases.append(torch.zeros(fan_out, requires_grad=True))


def net(x):
    h1 = torch.relu(x @ weights[0] + biases[0])
    h2 = torch.relu(h1 @ weights[1] + biases[1])
    return h2 @ weights[2] + biases[2]


x_test, v_test = points(1000)
shift, scale = v_test.mean(), v_test.std()
optimizer = torch.optim.Adam(weights + biases, lr=1e-3)
for step in range(600):
    x, v = points(128)
    error = net(x) - (v - shift) / scale
    loss = error.square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:3d}: {loss.item():.5f}")

with torch.no_grad():
    error = net(x_test) - (v_test - shift) / scale
print("final_loss", round(error.square().mean().item(), 6))
