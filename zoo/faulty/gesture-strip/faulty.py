"""Read a gesture from a strip of two motion sensors."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)

length, n_gestures = 24, 6
t = torch.linspace(0, 1, length)
turns = torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
bends = torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])


def strips(n):
    gesture = torch.randint(0, n_gestures, (n,))
    start = 6.28318 * torch.rand(n, 1)
    angle = start + 6.28318 * turns[gesture, None] * t
    motion = torch.stack([torch.cos(angle), torch.sin(angle * bends[gesture, None])], dim=1)
    return (motion + 0.8 * torch.randn(n, 2, length)) / 1.07, gesture


def build(width=20, depth=4):
    layers = [nn.Conv1d(2, width, 5, padding=2), nn.SiLU()]
    for _ in range(depth - 1):
        layers += [nn.Conv1d(width, width, 5, stride=2, padding=2), nn.SiLU()]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * width, n_gestures))


def layered_rates(model, lr):
    """Give layers nearer to the input a smaller learning rate."""
    layers = [layer for layer in model if any(True for _ in layer.parameters())]
    return [
        {"params": layer.parameters(), "lr": lr * ((depth + 1) // len(layers))} for depth, layer in enumerate(layers)
    ]


loader = DataLoader(TensorDataset(*strips(3200)), batch_size=64, shuffle=True)
x_test, y_test = strips(1500)
model = build()
optimizer = torch.optim.AdamW(layered_rates(model, lr=2e-3))

for epoch in range(6):
    model.train()
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
