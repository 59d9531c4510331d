"""Classify jets, sets of particles in no order, by a network that is blind to the order."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(417)

n_particles, n_features, n_kinds = 40, 3, 4
spread = torch.eye(n_features) + 0.35 * torch.randn(n_kinds, n_features, n_features)


def jets(n):
    kind = torch.randint(0, n_kinds, (n,))
    particles = torch.randn(n, n_particles, n_features) @ spread[kind]
    return particles + 0.5 * torch.randn(n, 1, n_features), kind


class SetClassifier(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, width))
        self.merge = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, n_kinds)
        nn.init.kaiming_normal_(self.each[0].weight, nonlinearity="relu")
        for layer in (self.each[2], *self.merge):
            nn.init.xavier_normal_(layer.weight)
        nn.init.normal_(self.head.weight, std=0.05)

    def forward(self, particles):
        h = self.each(particles).sum(1)
        for layer in self.merge:
            h = torch.tanh(layer(h))
        return self.head(h)


def fit(model, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        particles, kind = jets(50)
        loss = F.cross_entropy(model(particles), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


model = SetClassifier()
fit(model, steps=350, lr=2e-3)
model.eval()
with torch.no_grad():
    particles, kind = jets(2000)
    print(f"final_loss {F.cross_entropy(model(particles), kind).item():.4f}")
