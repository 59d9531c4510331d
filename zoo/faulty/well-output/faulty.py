"""Forecast the change of a well's daily output from its recent pressure record."""

import torch
import torch.nn as nn

torch.manual_seed(67)

length, unit = 20, 400.0
kernel = torch.linspace(-1, 1, length) / 2.6


def records(n):
    history = torch.randn(n, 2, length)
    trend = history[:, 0] @ kernel
    swing = (history[:, 1] * history[:, 0]).mean(1) * length**0.5
    change = 400 * (torch.sin(1.2 * trend) + 0.6 * swing + 0.1 * torch.randn(n))
    return history, change


class Forecaster(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, width, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(width * length // 2, 1)

    def forward(self, history):
        return self.head(self.body(history)).squeeze(1)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.criterion = nn.HuberLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

    def fit(self, n_steps):
        for step in range(n_steps):
            history, change = records(64)
            loss = self.criterion(self.model(history), change)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 100 == 0:
                print(f"step {step:4d}  loss {loss.item():.4f}")

    @torch.no_grad()
    def error(self, history, change):
        self.model.eval()
        return (self.model(history) - change).abs().mean().item()


trainer = Trainer(Forecaster())
trainer.fit(400)
print(f"final_error {trainer.error(*records(2000)) * 1:.4f}")
