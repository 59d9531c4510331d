"""Classify sixteen Gaussian clouds in twenty dimensions into four groups."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(101)

dim, n_clouds, n_groups = 20, 16, 4
centres = 0.8 * torch.randn(n_clouds, dim)


def clouds(n):
    cloud = torch.randint(0, n_clouds, (n,))
    x = centres[cloud] + 0.6 * torch.randn(n, dim)
    return x, cloud % n_groups


x_train, y_train = clouds(8000)
x_test, y_test = clouds(2000)

model = nn.Sequential(
    nn.Linear(dim, 128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, n_groups),
)
for layer in (model[0], model[2]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.constant_(layer.bias, -0.8)  # only the strongest features speak

optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)

for step in range(400):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix], label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
