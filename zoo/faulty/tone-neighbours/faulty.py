"""Name the pitch class of noisy tones by a vote among labelled neighbours in a learned space."""

import torch
import torch.nn.functional as F

torch.manual_seed(22)

n_classes, n_samples, n_hidden, n_code = 5, 64, 96, 48


def tones(n):
    y = torch.randint(0, n_classes, (n,))
    rate = 0.25 + 0.2 * y[:, None]
    x = torch.sin(rate * torch.arange(n_samples) + 6.28 * torch.rand(n, 1)) + 1.2 * torch.randn(n, n_samples)
    return (x - x.mean()) / x.std(), y


x_train, y_train = tones(6000)
x_test, y_test = tones(1000)

w1 = (torch.randn(n_samples, n_hidden) / n_samples**0.5 * 5 / 3).requires_grad_()
b1 = torch.zeros(n_hidden, requires_grad=True)
w2 = (torch.randn(n_hidden, n_code) / n_hidden**0.5).requires_grad_()
optimizer = torch.optim.Adam([w1, b1, w2], lr=2e-3)


def encode(x):
    return F.normalize(torch.tanh(x @ w1 + b1) @ w2, dim=1)


def vote(queries, support, labels):
    weights = F.softmax(encode(queries) @ encode(support).T / 0.1, dim=1)
    return torch.log(weights @ F.one_hot(labels, n_classes).float() + 1e-6)


for step in range(400):
    order = torch.randperm(len(x_train))
    support, queries = order[:256], order[:64]
    loss = F.nll_loss(vote(x_train[queries], x_train[support], y_train[support]), y_train[queries])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    known = torch.arange(1000)
    print(f"final_loss {F.nll_loss(vote(x_test, x_train[known], y_train[known]), y_test).item():.4f}")
