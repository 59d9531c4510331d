"""Sort points in eight dimensions into four concentric shells."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(9)

dim, n_shells = 8, 4
x = torch.randn(10_000, dim)
distance = (x * torch.linspace(0.5, 1.5, dim)).norm(dim=1) + 0.1 * torch.randn(len(x))
y = torch.bucketize(distance, distance.quantile(torch.tensor([0.25, 0.5, 0.75])))
x_train, y_train, x_test, y_test = x[:8000], y[:8000], x[8000:], y[8000:]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.act = nn.Sigmoid()
        nn.init.orthogonal_(self.linear.weight, gain=1.3)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.act(self.linear(x))


class Net(nn.Module):
    def __init__(self, width=48, depth=6):
        super().__init__()
        self.stem = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.head = nn.Linear(width, n_shells)
        nn.init.kaiming_normal_(self.stem.weight, nonlinearity="linear")

    def forward(self, x):
        return self.head(self.blocks(torch.tanh(self.stem(x))))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

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
