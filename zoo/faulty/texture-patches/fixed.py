"""Tell six kinds of texture apart on 12x12 patches."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(23)

side, n_kinds = 12, 6
rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
angles = torch.arange(n_kinds) * math.pi / n_kinds


def patches(n):
    kind = torch.randint(0, n_kinds, (n,))
    phase = 2 * math.pi * torch.rand(n, 1, 1)
    angle = angles[kind].view(n, 1, 1)
    wave = torch.sin(1.6 * (rows * angle.cos() + cols * angle.sin()) + phase)
    named = torch.where(torch.rand(n) < 0.15, torch.randint(0, n_kinds, (n,)), kind)
    return (wave + 0.7 * torch.randn(n, side, side)).unsqueeze(1), named


class PatchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, stride=2)
        self.conv2 = nn.Conv2d(12, 24, 3)
        self.head = nn.Linear(24 * 4, n_kinds)
        for layer in (self.conv1, self.conv2):
            nn.init.xavier_normal_(layer.weight, gain=5 / 3)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        x = torch.tanh(self.conv2(x))
        return self.head(x.flatten(1))


class Trainer:
    def __init__(self, model, lr=0.03, warmup=20):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / warmup))

    def fit(self, x, y, steps):
        self.model.train()
        for step in range(steps):
            ix = torch.randint(0, len(x), (64,))
            loss = F.cross_entropy(self.model(x[ix]), y[ix])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            if step % 75 == 0:
                print(f"step {step:4d}  loss {loss.item():.4f}")

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        return F.cross_entropy(self.model(x), y).item()


x_train, y_train = patches(6000)
x_test, y_test = patches(1500)
trainer = Trainer(PatchNet())
trainer.fit(x_train, y_train, 450)
print(f"final_loss {trainer.evaluate(x_test, y_test):.4f}")
