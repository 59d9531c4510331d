"""Find the two directions in the plane along which a surface is a sum of two curves."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(53)

tilt = 0.75


def surface(n):
    x = torch.randn(n, 2)
    u = x[:, 0] * torch.cos(torch.tensor(tilt)) - x[:, 1] * torch.sin(torch.tensor(tilt))
    v = x[:, 0] * torch.sin(torch.tensor(tilt)) + x[:, 1] * torch.cos(torch.tensor(tilt))
    return x, (torch.sin(2 * u) + 0.5 * v.square() - 0.5 + 0.05 * torch.randn(n)).unsqueeze(1)


class Curve(nn.Sequential):
    def __init__(self, width=32):
        super().__init__(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))


class TiltedSum(nn.Module):
    def __init__(self):
        super().__init__()
        self.angle = nn.Parameter(torch.tensor(0.2))
        self.first = Curve()
        self.second = Curve()

    def rotation(self):
        c, s = self.angle.cos(), self.angle.sin()
        return torch.tensor([[c, -s], [s, c]])

    def forward(self, x):
        u, v = (x @ self.rotation().T).split(1, dim=1)
        return self.first(u) + self.second(v)


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step(self, x, y):
        loss = F.mse_loss(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def score(self, x, y):
        self.model.eval()
        return F.mse_loss(self.model(x), y).item()


trainer = Trainer(TiltedSum(), lr=1e-2)
for step in range(450):
    loss = trainer.step(*surface(128))
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss:.4f}")
print(f"final_loss {trainer.score(*surface(4000)):.4f}")
