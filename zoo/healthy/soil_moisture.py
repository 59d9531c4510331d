"""Predict soil moisture from few measurements and stop when the validation error no longer falls."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(248)


def measurements(n):
    x = torch.randn(n, 9)
    y = 0.7 * x[:, 0] + 0.6 * torch.sin(1.5 * x[:, 1]) * x[:, 2] - 0.3 * x[:, 3] ** 2 + 0.3
    return x, (y + 0.25 * torch.randn(n)).unsqueeze(1)


class Soil(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.enter = nn.Linear(9, width)
        self.middle = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.leave = nn.Linear(width, 1)

    def forward(self, x):
        x = F.celu(self.enter(x))
        x = F.celu(self.norm(self.middle(x)))
        return self.leave(F.dropout(x, 0.1, self.training))


(x_train, y_train), (x_valid, y_valid), (x_test, y_test) = measurements(960), measurements(500), measurements(2000)
model = Soil()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


@torch.no_grad()
def error(x, y):
    model.eval()
    value = F.mse_loss(model(x), y).item()
    model.train()
    return value


best, best_state, waited = float("inf"), None, 0
for epoch in range(30):
    for ix in torch.randperm(len(x_train)).split(48):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x_train[ix]), y_train[ix])
        loss.backward()
        optimizer.step()
    valid = error(x_valid, y_valid)
    if epoch % 5 == 0:
        print(f"epoch {epoch:2d}  loss {loss.item():.4f}  valid {valid:.4f}")
    if valid < best:
        best, best_state, waited = valid, copy.deepcopy(model.state_dict()), 0
    else:
        waited += 1
        if waited == 4:
            print(f"stopped after epoch {epoch}")
            break

model.load_state_dict(best_state)
print(f"final_loss {error(x_test, y_test):.4f}")
