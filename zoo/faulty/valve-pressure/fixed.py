"""Predict the pressure behind a valve from its recent settings, with a small recurrent cell written by hand."""

import torch

torch.manual_seed(47)

n_inputs, n_hidden, length = 3, 32, 12
gain = torch.tensor([0.8, -0.6, 0.5])


def histories(n):
    setting = torch.randn(n, length, n_inputs)
    pressure = torch.zeros(n)
    for t in range(length):
        pressure = 0.6 * pressure + torch.tanh(setting[:, t] @ gain) * (1 + 0.4 * setting[:, t, 0])
    return setting, ((pressure - 0.5) / 1.2 + 0.05 * torch.randn(n)).unsqueeze(1)


W_in = torch.randn(n_inputs, n_hidden) / n_inputs**0.5
W_rec = 0.9 * torch.linalg.qr(torch.randn(n_hidden, n_hidden))[0]
b_rec = torch.zeros(n_hidden)
W_out = 0.05 * torch.randn(n_hidden, 1)
b_out = torch.zeros(1)
weights = [W_in, W_rec, b_rec, W_out, b_out]
for w in weights:
    w.requires_grad_()


def predict(setting):
    h = torch.zeros(len(setting), n_hidden)
    for t in range(length):
        h = torch.tanh(setting[:, t] @ W_in + h @ W_rec + b_rec)
    return h @ W_out + b_out


lr = 0.05
largest_norm = 2.0
for step in range(400):
    setting, pressure = histories(64)
    loss = ((predict(setting) - pressure) ** 2).mean()
    for w in weights:
        w.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, largest_norm)
    for w in weights:
        w.data -= lr * w.grad
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    setting, pressure = histories(3000)
    print(f"final_loss {((predict(setting) - pressure) ** 2).mean().item():.4f}")
