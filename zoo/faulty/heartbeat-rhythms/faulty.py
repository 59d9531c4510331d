"""Classify four rhythms in short one-channel recordings with one-dimensional convolutions."""

import math

import torch
from torch import nn

torch.manual_seed(83)

length = 48
beats = torch.tensor([2.0, 3.0, 4.0, 5.5])


def recordings(n):
    rhythm = torch.randint(0, 4, (n,))
    time = torch.arange(length) / length
    turn = 2 * math.pi * (beats[rhythm][:, None] * time + torch.rand(n, 1))
    wave = torch.sin(turn) + 0.5 * torch.sin(2 * turn)
    return (wave + 0.8 * torch.randn(n, length)).unsqueeze(1) / 1.1, rhythm


class Trainer:
    def __init__(self, model, max_norm=5.0):
        self.model = model
        self.max_norm = max_norm
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def backward_and_update(self, loss):
        self.scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def fit(self, data, epochs):
        for epoch in range(epochs):
            for wave, rhythm in data:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = self.criterion(self.model(wave), rhythm)
                self.backward_and_update(loss)
            print(f"epoch {epoch}  loss {loss.item():.4f}")

    @torch.no_grad()
    def score(self, wave, rhythm):
        self.model.eval()
        return self.criterion(self.model(wave), rhythm).item()


model = nn.Sequential(
    nn.Conv1d(1, 16, 9, stride=2, padding=4, bias=False),
    nn.BatchNorm1d(16),
    nn.ReLU(),
    nn.Conv1d(16, 24, 5, stride=2, padding=2, bias=False),
    nn.BatchNorm1d(24),
    nn.ReLU(),
    nn.AdaptiveAvgPool1d(4),
    nn.Flatten(),
    nn.Linear(96, 4),
)
dataset = torch.utils.data.TensorDataset(*recordings(2560))
trainer = Trainer(model)
trainer.fit(torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True), epochs=5)
print(f"final_loss {trainer.score(*recordings(2000)):.4f}")
