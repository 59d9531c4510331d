"""Predict tasting scores from eight laboratory readings."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(418)

n_readings = 8
effects = torch.randn(6, n_readings) / n_readings**0.5


def tastings(n):
    readings = torch.randn(n, n_readings)
    taste = torch.sin(2 * readings @ effects.T).sum(1) / 1.7
    return readings, (taste + 0.1 * torch.randn(n))[:, None]


class ScoreModel(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(n_readings, width), nn.Linear(width, width)])
        self.score = nn.Linear(width, 1)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, h):
        for layer in self.layers:
            h = layer(h).relu()
        return self.score(h)


model = ScoreModel()
matrices = [p for p in model.parameters() if p.ndim > 1]
vectors = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0, "lr": 1.0}],
    lr=2e-3,
)

readings, scores = tastings(6000)
for epoch in range(5):
    for ix in torch.randperm(len(readings)).split(64):
        loss = F.mse_loss(model(readings[ix]), scores[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    readings, scores = tastings(2000)
    print(f"final_loss {F.mse_loss(model(readings), scores).item():.4f}")
