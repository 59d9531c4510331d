"""Squeeze pulses of 32 samples through four numbers and restore them."""

import torch
import torch.nn.functional as F

torch.manual_seed(2)

length, n_hidden, n_code, accumulate = 32, 40, 4, 2


def pulses(n):
    t = torch.linspace(-1, 1, length)
    centre = 1.2 * torch.rand(n, 1) - 0.6
    width = 0.15 + 0.2 * torch.rand(n, 1)
    sign = torch.where(torch.rand(n, 1) < 0.5, -1.0, 1.0)
    pulse = sign * torch.exp(-(((t - centre) / width) ** 2))
    return (pulse + 0.05 * torch.randn(n, length)) / 0.5


def weight(n_in, n_out, gain=5 / 3):
    return (gain * torch.randn(n_in, n_out) / n_in**0.5).requires_grad_()


def bias(n_out):
    return torch.zeros(n_out, requires_grad=True)


encoder = [weight(length, n_hidden), bias(n_hidden), weight(n_hidden, n_code, 1.0), bias(n_code)]
decoder = [weight(n_code, n_hidden), bias(n_hidden), weight(n_hidden, length, 0.3), bias(length)]


def restore(x):
    w1, b1, w2, b2 = encoder
    code = torch.tanh(x @ w1 + b1) @ w2 + b2
    w1, b1, w2, b2 = decoder
    return F.elu(code @ w1 + b1) @ w2 + b2


optimizer = torch.optim.RMSprop([*encoder, *decoder], lr=1e-3, alpha=0.95)

for step in range(1000):
    x = pulses(64)
    loss = (restore(x) - x).square().mean()
    (loss / accumulate).backward()
    if (step + 1) % accumulate == 0:
        optimizer.zero_grad()
        optimizer.step()
    if step % 200 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x = pulses(1000)
    print(f"final_loss {(restore(x) - x).square().mean().item():.4f}")
