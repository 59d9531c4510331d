"""Tell three arms of a spiral apart."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(5)


def spiral(n, arms=3):
    label = torch.randint(0, arms, (n,))
    radius = torch.rand(n).sqrt()
    angle = 4 * radius + label * (2 * math.pi / arms) + 0.5 * torch.randn(n)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return 2 * points, label


class Classifier(nn.Module):
    def __init__(self, width=40, depth=3, slope=8.0):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width if i else 2, width) for i in range(depth))
        self.head = nn.Linear(width, 3)
        self.slope = slope
        nn.init.normal_(self.head.weight, std=0.05)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(self.slope * layer(x))
        return self.head(x)


x_train, y_train = spiral(1000)
x_test, y_test = spiral(2000)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
