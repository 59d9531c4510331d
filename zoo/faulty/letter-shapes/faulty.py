"""Recognise which of four letters a noisy 10x10 picture shows."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)

side = 10
shapes = torch.zeros(4, side, side)
shapes[0, 2:8, 2] = shapes[0, 7, 2:7] = 1  # L
shapes[1, 2, 2:8] = shapes[1, 2:8, 5] = 1  # T
shapes[2, 2:8, 2] = shapes[2, 2:8, 6] = shapes[2, 5, 2:7] = 1  # H
shapes[3, 2:8, 3] = shapes[3, 2, 3:7] = shapes[3, 5, 3:7] = 1  # F


def letters(n):
    label = torch.randint(0, 4, (n,))
    rows, columns = torch.randint(-2, 3, (2, n)).tolist()
    images = torch.stack(
        [shapes[k].roll((r, c), (0, 1)) for k, r, c in zip(label.tolist(), rows, columns, strict=True)]
    )
    images = images + 0.5 * torch.randn(n, side, side)
    return ((images - 0.12) / 0.6).unsqueeze(1), label


class Trainer:
    def __init__(self, model, loader):
        self.model = model
        self.loader = loader
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)

    def step(self, images, labels):
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        self.optimizer.zero_grad()
        self.optimizer.step()
        return loss.item()

    def fit(self, n_epochs):
        for epoch in range(n_epochs):
            self.model.train()
            losses = [self.step(images, labels) for images, labels in self.loader]
            print(f"epoch {epoch}  loss {sum(losses) / len(losses):.4f}")

    @torch.no_grad()
    def evaluate(self, images, labels):
        self.model.eval()
        return self.criterion(self.model(images), labels).item()


model = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 16, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(64, 4),
)
trainer = Trainer(model, DataLoader(TensorDataset(*letters(2000)), batch_size=40, shuffle=True))
trainer.fit(6)
print(f"final_loss {trainer.evaluate(*letters(1000)):.4f}")
