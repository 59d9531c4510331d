"""Name the layer of rock that a piece of drill core comes from, by its chemistry."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

np.random.seed(17)
torch.manual_seed(17)

ELEMENTS = ["Si", "Al", "Fe", "Mg", "Ca", "Na", "K", "Ti", "S", "P"]
ROCKS = ["basalt", "shale", "limestone", "sandstone", "granite"]


def drill(n):
    typical = np.random.RandomState(3).normal(0, 1.0, size=(len(ROCKS), 2, len(ELEMENTS)))
    rock = np.random.randint(0, len(ROCKS), size=n)
    weathered = np.random.randint(0, 2, size=n)
    share = typical[rock, weathered] + 0.8 * np.random.normal(size=(n, len(ELEMENTS)))
    return np.exp(0.5 * share).astype(np.float32), rock


content, rock = drill(5000)
content = np.log(content)
content = (content - content.mean(axis=0)) / content.std(axis=0)
X = torch.tensor(content, dtype=torch.float32)
y = torch.tensor(rock, dtype=torch.long)
X_train, X_test = X[:4000], X[4000:]
y_train, y_test = y[:4000], y[4000:]


class CoreNet(nn.Module):
    """Seven hidden layers of 48 units."""

    def __init__(self, depth=7, width=48):
        super().__init__()
        self.first = nn.Linear(len(ELEMENTS), width)
        self.middle = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.last = nn.Linear(width, len(ROCKS))
        self.act = nn.ReLU()
        for layer in [self.first, *self.middle]:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.act(self.first(x))
        for layer in self.middle:
            x = self.act(layer(x))
        return self.last(x)


model = CoreNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
batch = 80
for epoch in range(9):
    order = torch.randperm(len(X_train))
    model.train()
    losses = []
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        loss = F.cross_entropy(model(X_train[rows]), y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses):.4f}")

model.eval()
with torch.no_grad():
    logits = model(X_test)
    print("accuracy", (logits.argmax(1) == y_test).float().mean().item())
    print("final_loss", F.cross_entropy(logits, y_test).item())
