"""Estimate the concentration of a drifting plume at a point from six readings."""

import torch
from torch import nn

torch.manual_seed(44)

n_readings = 6


def plume(n):
    x = torch.randn(n, n_readings)
    wind, height, width = x[:, 0], x[:, 1], 1 + x[:, 2].abs()
    spread = torch.exp(-((x[:, 3] - wind) ** 2 + 0.5 * height**2) / width)
    target = 4 * spread + 0.5 * torch.sin(2 * x[:, 4]) + 0.3 * x[:, 5] * height
    return x, (target - 1.3) / 1.25 + 0.1 * torch.randn(n)


class Trainer:
    def __init__(self, model, optimizer, loss_function):
        self.model, self.optimizer, self.loss_function = model, optimizer, loss_function

    def update(self, x, y):
        loss = self.loss_function(self.model(x).squeeze(1), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, steps, batch_size):
        self.model.train()
        for step in range(steps):
            loss = self.update(*plume(batch_size))
            if step % 100 == 0:
                print(f"step {step:4d}  loss {loss:.4f}")

    @torch.no_grad()
    def validate(self, x, y):
        self.model.eval()
        return self.loss_function(self.model(x).squeeze(1), y).item()


net = nn.Sequential()
for n_in, n_out in ((n_readings, 48), (48, 48), (48, 48)):
    net.extend([nn.Linear(n_in, n_out), nn.Tanh()])
    nn.init.xavier_uniform_(net[-2].weight)
net.append(nn.Linear(48, 1))
trainer = Trainer(net, torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.3), nn.SmoothL1Loss())
trainer.run(500, 64)
print(f"final_loss {trainer.validate(*plume(3000)):.4f}")
