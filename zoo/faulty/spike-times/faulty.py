"""Mark the moments at which a neuron fires in noisy voltage traces, with matrix products in half precision."""

import torch
import torch.nn.functional as F

torch.manual_seed(73)

length, n_hidden = 96, 64
shape = torch.tensor([0.3, 1.0, 0.5, -0.4, -0.2])


def traces(n):
    fires = (torch.rand(n, 1, length) < 0.004).float()
    voltage = F.conv1d(fires, 5 * shape[None, None], padding=2) + 0.5 * torch.randn(n, 1, length)
    return voltage.squeeze(1) / 0.6, fires.squeeze(1)


w1 = (torch.randn(length, n_hidden) / length**0.5).requires_grad_()
b1 = torch.zeros(n_hidden, requires_grad=True)
w2 = (torch.randn(n_hidden, length) * 0.04).requires_grad_()
b2 = torch.zeros(length, requires_grad=True)
parameters = [w1, b1, w2, b2]


def logits(voltage):
    h = torch.tanh(voltage.half() @ w1.half() + b1.half())
    return (h @ w2.half() + b2.half()).float()


optimizer = torch.optim.RMSprop(parameters, lr=4e-3, eps=1e-10)
loss_scale = 1.0

for step in range(400):
    voltage, fires = traces(1024)
    loss = F.binary_cross_entropy_with_logits(logits(voltage), fires)
    optimizer.zero_grad()
    (loss * loss_scale).backward()
    for p in parameters:
        p.grad /= loss_scale
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.5f}")

with torch.no_grad():
    voltage, fires = traces(3000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(logits(voltage), fires).item():.5f}")
