"""Tell six crops apart by ten spectral readings with a deep perceptron."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(57)

n_in, width, depth, n_classes = 10, 40, 9, 6
centres = 1.2 * torch.randn(3 * n_classes, n_in)


def fields(n):
    patch = torch.randint(0, 3 * n_classes, (n,))
    x = centres[patch] + 0.8 * torch.randn(n, n_in)
    return x / 1.44, patch % n_classes


def stage(n_from, n_to):
    return nn.Linear(n_from, n_to, bias=False), nn.BatchNorm1d(n_to), nn.Sigmoid()


hidden = [part for _ in range(depth - 1) for part in stage(width, width)]
model = nn.Sequential(*stage(n_in, width), *hidden, nn.Linear(width, n_classes))
x_train, y_train = fields(8000)
x_test, y_test = fields(2000)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for step in range(300):
    ix = torch.randint(0, len(x_train), (96,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
