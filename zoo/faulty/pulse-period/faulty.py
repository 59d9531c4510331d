"""Sort pulse trains by their period with a recurrent network written out by hand."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(49)

length, n_hidden, n_classes = 20, 48, 4


def pulses(n):
    label = torch.randint(0, n_classes, (n,))
    time = torch.arange(length) + 12 * torch.rand(n, 1)
    signal = torch.sin(2 * math.pi * time / (label.view(-1, 1) + 3.0))
    return signal + 0.5 * torch.randn(n, length), label


def weight(fan_in, fan_out):
    return torch.randn(fan_in, fan_out) / fan_in**0.5


w_in = weight(1, n_hidden).requires_grad_()
w_state = weight(n_hidden, n_hidden).requires_grad_()
b_state = torch.zeros(n_hidden, requires_grad=True)
w_out = (0.5 * weight(n_hidden, n_classes)).requires_grad_()
b_out = torch.zeros(n_classes, requires_grad=True)
parameters = [w_in, w_state, b_state, w_out, b_out]


def predict(x):
    x = F.layer_norm(x.unsqueeze(2), (1,))
    state = torch.zeros(len(x), n_hidden)
    for t in range(length):
        state = torch.tanh(x[:, t] @ w_in + state @ w_state + b_state)
    return state @ w_out + b_out


optimizer = torch.optim.Adam(parameters, lr=2e-3)

for step in range(300):
    x, y = pulses(64)
    loss = F.cross_entropy(predict(x), y)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, y = pulses(2000)
    print(f"final_loss {F.cross_entropy(predict(x), y).item():.4f}")
