"""Quality of glass from furnace curves, six at a time: three tasks, learned weights of the losses, weight averaging."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import SWALR, AveragedModel

torch.manual_seed(321)


def melts(n):
    t = torch.linspace(0, 1, 40)
    peak, rise, hold = 1450 + 40 * torch.randn(n, 1), 0.15 + 0.1 * torch.rand(n, 1), 0.5 + 0.3 * torch.rand(n, 1)
    heat = peak * torch.sigmoid((t - rise) * 20) * torch.sigmoid((hold + 0.2 - t) * 15)
    oxygen = 5 + torch.randn(n, 1) + 0.5 * torch.sin(6.28 * (t + torch.rand(n, 1))) + 0.2 * torch.randn(n, 40)
    curves = torch.stack([heat + 8 * torch.randn(n, 40), oxygen], dim=1)
    density = 2500 + 0.5 * (peak - 1450) - 80 * (hold - 0.65) + 3 * torch.randn(n, 1)
    bubbles = torch.poisson(torch.exp(1.0 + 0.5 * (oxygen.mean(1) - 5) - 3.0 * (hold - 0.65).squeeze(1)))
    cracked = torch.bernoulli(torch.sigmoid((0.22 - rise) * 40 - 0.5)).squeeze(1)
    return curves, density.squeeze(1), bubbles, cracked


class Scaler:
    def __init__(self, x, dim):
        self.mean, self.std = x.mean(dim, keepdim=True), x.std(dim, keepdim=True)

    def __call__(self, x):
        return (x - self.mean) / self.std


class GlassNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv1d(2, 16, 5, padding=2),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Conv1d(32, 32, 5, stride=2, padding=2),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(320, 48),
            nn.SiLU(),
        )
        self.density, self.bubbles, self.cracked = nn.Linear(48, 1), nn.Linear(48, 1), nn.Linear(48, 1)
        self.log_vars = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        h = self.trunk(x)
        return self.density(h).squeeze(1), self.bubbles(h).squeeze(1), self.cracked(h).squeeze(1)


def task_losses(out, density, bubbles, cracked):
    return torch.stack(
        [
            F.mse_loss(out[0], density),
            F.poisson_nll_loss(out[1], bubbles, log_input=True),
            F.binary_cross_entropy_with_logits(out[2], cracked),
        ]
    )


curves, density, bubbles, cracked = melts(3000)
test_curves, test_density, test_bubbles, test_cracked = melts(1500)
scale_x, scale_y = Scaler(curves, (0, 2)), Scaler(density, 0)
curves, test_curves = scale_x(curves), scale_x(test_curves)
density, test_density = scale_y(density), scale_y(test_density)

model = GlassNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
swa_model = AveragedModel(model)
swa_start = 400
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=swa_start, eta_min=3e-4)
swa_scheduler = SWALR(optimizer, swa_lr=5e-4, anneal_epochs=20)

for step in range(600):
    i = torch.randint(0, len(curves), (6,))
    losses = task_losses(model(curves[i]), density[i], bubbles[i], cracked[i])
    loss = (losses * torch.exp(-model.log_vars) + model.log_vars).sum()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step >= swa_start:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    else:
        scheduler.step()
    if step % 100 == 0:
        print(f"step {step:4d}", *(f"{v:.3f}" for v in losses.tolist()))

swa_model.eval()
with torch.no_grad():
    losses = task_losses(swa_model(test_curves), test_density, test_bubbles, test_cracked)
    rate = test_bubbles.mean()
    chance = test_cracked.mean()
    print("held out", *(f"{v:.4f}" for v in losses.tolist()))
    print(
        "constant answers 1.0000",
        f"{F.poisson_nll_loss(rate.log().expand_as(test_bubbles), test_bubbles).item():.4f}",
        f"{F.binary_cross_entropy(chance.expand_as(test_cracked), test_cracked).item():.4f}",
    )
    print(f"final_loss {losses[0].item() + losses[2].item():.4f}")
