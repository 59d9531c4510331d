"""Fit a bumpy function with a residual net whose branches start at zero."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(102)


def bumps(n):
    x = 3.4 * torch.rand(n, 6) - 1.7
    y = torch.sin(2 * x[:, 0] + x[:, 1]) + x[:, 2] * torch.cos(x[:, 3]) + 0.5 * x[:, 4]
    return x, y + 0.1 * torch.randn(n)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.kaiming_normal_(self.up.weight, nonlinearity="relu")
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


class Net(nn.Module):
    def __init__(self, width=32, depth=6):
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).squeeze(1)


x_train, y_train = bumps(10_000)
x_test, y_test = bumps(2000)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.mse_loss(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")
