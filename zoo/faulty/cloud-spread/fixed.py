"""Estimate how far a cloud of 24 points spreads, with layers written as functions."""

import torch
import torch.nn.functional as F

torch.manual_seed(51)

n_points, n_hidden = 24, 48


def clouds(n):
    spread = 0.3 + 1.2 * torch.rand(n, 1, 1)
    points = torch.randn(n, n_points, 2) * spread * torch.tensor([1.0, 0.5]) + 0.2 * torch.randn(n, 1, 2)
    return points / 0.75, (spread.flatten() - 0.9) / 0.35


def layer(fan_in, fan_out, gain):
    return (torch.randn(fan_out, fan_in) * gain / fan_in**0.5).requires_grad_()


w1, b1 = layer(2, n_hidden, 1.4), torch.zeros(n_hidden, requires_grad=True)
w2, b2 = layer(n_hidden, n_hidden, 1.4), torch.zeros(n_hidden, requires_grad=True)
w3, b3 = layer(n_hidden, 1, 1.0), torch.zeros(1, requires_grad=True)
gain = torch.ones(n_hidden, requires_grad=True)
running_mean, running_var = torch.zeros(n_hidden), torch.ones(n_hidden)
parameters = [w1, b1, w2, gain, b2, w3, b3]


def predict(points, training):
    h = F.relu(F.linear(points, w1, b1)).flatten(0, 1)
    h = F.linear(h, w2)
    h = F.batch_norm(h, running_mean, running_var, gain, b2, training)
    h = F.dropout(F.relu(h), 0.5, training)
    return F.linear(h.unflatten(0, (-1, n_points)).mean(1), w3, b3).squeeze(1)


x_test, y_test = clouds(1000)
optimizer = torch.optim.RMSprop(parameters, lr=1e-3)

for step in range(400):
    x, y = clouds(64)
    loss = F.huber_loss(predict(x, True), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.huber_loss(predict(x_test, False), y_test).item():.4f}")
