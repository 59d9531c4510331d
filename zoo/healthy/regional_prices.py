"""Fit a surface that follows another law in each region with six small experts, one of which answers each point."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(204)

n_regions, n_experts, dim = 4, 6, 6
centres = 1.5 * torch.randn(n_regions, dim)
laws = torch.randn(n_regions, dim) / dim**0.5


def points(n):
    region = torch.randint(0, n_regions, (n,))
    local = torch.randn(n, dim)
    y = (local * laws[region]).sum(1) + 0.5 * torch.tanh(2 * local[:, 0] * (region - 1.5))
    return (centres[region] + 0.7 * local) / 1.6, (y + 0.1 * torch.randn(n)).unsqueeze(1)


class Expert(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


class SwitchLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.router = nn.Linear(width, n_experts, bias=False)
        self.experts = nn.ModuleList(Expert(width) for _ in range(n_experts))

    def forward(self, x):
        probabilities = self.router(x).softmax(dim=-1)
        weight, choice = probabilities.max(dim=-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            (rows,) = torch.where(choice == i)
            if len(rows):
                out = out.index_add(0, rows, weight[rows, None] * expert(x[rows]))
        share = F.one_hot(choice, n_experts).float().mean(0)
        return x + out, n_experts * (share * probabilities.mean(0)).sum()


class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.switch = SwitchLayer(width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        h, balance = self.switch(F.gelu(self.embed(x)))
        return self.out(h), balance


model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

for step in range(400):
    x, y = points(128)
    prediction, balance = model(x)
    loss = F.mse_loss(prediction, y) + 0.01 * balance
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = points(2000)
    print(f"final_loss {F.mse_loss(model(x)[0], y).item():.4f}")
