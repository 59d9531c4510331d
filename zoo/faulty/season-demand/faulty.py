"""Forecast the next value of a seasonal series from the last forty."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(36)

length = 40


def series(n):
    t = torch.arange(length + 1)
    period = 6 + 8 * torch.rand(n, 1)
    phase = 6.28318 * torch.rand(n, 1)
    season = torch.sin(6.28318 * t / period + phase)
    trend = 0.02 * torch.randn(n, 1) * (t - length / 2)
    values = 1.2 * season + trend + 0.1 * torch.randn(n, length + 1)
    return values[:, None, :-1], values[:, -1]


class Forecaster(nn.Module):
    def __init__(self, n_hidden=24):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv1d(1, 16, 5, stride=2),
            nn.GELU(),
            nn.Conv1d(16, n_hidden, 5, stride=2),
            nn.GELU(),
            nn.Conv1d(n_hidden, n_hidden, 7),
            nn.GELU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(n_hidden, 48),
            nn.Tanh(),
            nn.Linear(48, 48),
            nn.Tanh(),
            nn.Linear(48, 1),
        )
        for layer in self.backbone:
            if isinstance(layer, nn.Conv1d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, past):
        features = self.backbone(past)
        return self.head(features).squeeze(1)


class Trainer:
    def __init__(self, model, lr, head_lr):
        self.model = model
        groups = [
            {"params": model.backbone.parameters(), "lr": lr},
            {"params": model.head.parameters(), "lr": head_lr},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)

    def fit(self, steps, batch_size=64):
        self.model.train()
        for step in range(steps):
            past, following = series(batch_size)
            loss = F.mse_loss(self.model(past), following)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 50 == 0:
                print(f"step {step:4d}  loss {loss.item():.4f}")

    @torch.no_grad()
    def score(self, past, following):
        self.model.eval()
        return F.mse_loss(self.model(past), following).item()


trainer = Trainer(Forecaster(), lr=6e-3, head_lr=4e-6)
trainer.fit(300)
print(f"final_loss {trainer.score(*series(1500)):.4f}")
