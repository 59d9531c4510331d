"""Plain gradient descent, written out by hand, on all of a small table of house prices."""

import torch

torch.manual_seed(235)

n_train, n_test, width = 256, 500, 32

rooms = torch.randint(1, 7, (n_train + n_test,)).float()
area = 20 * rooms + 15 + 12 * torch.randn(n_train + n_test)
age = 80 * torch.rand(n_train + n_test)
distance = 15 * torch.rand(n_train + n_test)
price = 2.2 * area * torch.exp(-distance / 12) + 0.02 * (age - 40) ** 2 + 6 * torch.randn(n_train + n_test)

x = torch.stack([rooms, area, age, distance], dim=1)
y = price.unsqueeze(1)
x = (x - x[:n_train].mean(0)) / x[:n_train].std(0)
y = (y - y[:n_train].mean(0)) / y[:n_train].std(0)

w1 = torch.nn.Parameter(torch.randn(4, width) / 2)
b1 = torch.nn.Parameter(torch.zeros(width))
w2 = torch.nn.Parameter(torch.randn(width, 1) / width**0.5)
b2 = torch.nn.Parameter(torch.zeros(1))


def mean_squared_error(rows):
    prediction = torch.tanh(x[rows] @ w1 + b1) @ w2 + b2
    return ((prediction - y[rows]) ** 2).mean()


lr = 0.1
train, test = slice(0, n_train), slice(n_train, None)
for step in range(500):
    loss = mean_squared_error(train)
    gradients = torch.autograd.grad(loss, [w1, b1, w2, b2])
    with torch.no_grad():
        for p, g in zip([w1, b1, w2, b2], gradients, strict=True):
            p -= lr * g
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {mean_squared_error(test).item():.4f}")
