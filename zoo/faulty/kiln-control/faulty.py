"""Predict the heat of a kiln from sixteen readings, with layers written as functions."""

import torch
import torch.nn.functional as F

torch.manual_seed(51)

n_in, n_hidden = 16, 128


def readings(n):
    x = torch.randn(n, n_in)
    heat = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3].abs() + x[:, 4:8].sum(1) / 2
    return x, (heat + 0.1 * torch.randn(n)) / 1.7


def layer(fan_in, fan_out, gain):
    return (torch.randn(fan_out, fan_in) * gain / fan_in**0.5).requires_grad_(), torch.zeros(
        fan_out, requires_grad=True
    )


w1, b1 = layer(n_in, n_hidden, 2**0.5)
w2, b2 = layer(n_hidden, n_hidden, 2**0.5)
w3, b3 = layer(n_hidden, 1, 0.7)
gain = torch.ones(n_hidden, requires_grad=True)
shift = torch.zeros(n_hidden, requires_grad=True)
running_mean, running_var = torch.zeros(n_hidden), torch.ones(n_hidden)
parameters = [w1, b1, w2, b2, w3, b3, gain, shift]


def predict(x, training):
    h = F.relu(F.linear(x, w1, b1))
    h = F.relu(F.linear(h, w2, b2))
    h = F.dropout(h, 0.5, training)
    h = F.batch_norm(h, running_mean, running_var, gain, shift, training)
    return F.linear(h, w3, b3).squeeze(1)


x_train, y_train = readings(8000)
x_test, y_test = readings(2000)
optimizer = torch.optim.RMSprop(parameters, lr=5e-4)

for step in range(600):
    ix = torch.randint(0, len(x_train), (80,))
    loss = F.huber_loss(predict(x_train[ix], True), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.huber_loss(predict(x_test, False), y_test).item():.4f}")
