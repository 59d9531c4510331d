"""Predict how fast a plant grows from sensors that report in different units."""

import torch

torch.manual_seed(53)

# bar, volt, ampere, kelvin above 290, metre, gram
units = torch.tensor([0.002, 0.001, 0.002, 8.0, 0.001, 5.0])
n_features, n_hidden = len(units), 48


def plants(n):
    state = torch.randn(n, n_features)
    pressure, light, current, warmth, height, water = state.unbind(1)
    growth = torch.sin(1.5 * light) + pressure * height + 0.7 * current + 0.3 * warmth + 0.3 * water
    return state * units, (growth + 0.1 * torch.randn(n))[:, None] / 1.5


x_train, y_train = plants(6000)
x_test, y_test = plants(2000)
x_train, x_test = (x_train - x_train.mean(0)) / x_train.std(0), (x_test - x_train.mean(0)) / x_train.std(0)

w1 = torch.randn(n_features, n_hidden) / n_features**0.5
b1 = torch.zeros(n_hidden)
w2 = torch.randn(n_hidden, n_hidden) / n_hidden**0.5
b2 = torch.zeros(n_hidden)
w3 = 0.3 * torch.randn(n_hidden, 1) / n_hidden**0.5
b3 = torch.zeros(1)
parameters = [w1, b1, w2, b2, w3, b3]
for p in parameters:
    p.requires_grad_()


def predict(x):
    h = torch.tanh(x @ w1 + b1)
    h = torch.tanh(h @ w2 + b2)
    return h @ w3 + b3


velocity = [torch.zeros_like(p) for p in parameters]
for step in range(600):
    ix = torch.randint(0, len(x_train), (64,))
    loss = (predict(x_train[ix]) - y_train[ix]).square().mean()
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, v, g in zip(parameters, velocity, gradients, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(0.02 * v)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {(predict(x_test) - y_test).square().mean().item():.4f}")
