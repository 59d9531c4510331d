"""Remove noise from 12x12 drawings of crossing lines."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(415)

side = 12


def drawings(n):
    rows = (torch.rand(n, side, 1) < 0.15).float() * torch.randn(n, side, 1).sign()
    columns = (torch.rand(n, 1, side) < 0.15).float() * torch.randn(n, 1, side).sign()
    clean = 1.5 * (rows + columns)[:, None]
    return clean + 0.8 * torch.randn_like(clean), clean


class Denoiser(nn.Module):
    def __init__(self, channels=12):
        super().__init__()
        self.first = nn.Conv2d(1, channels, 5, padding=2)
        self.second = nn.Conv2d(channels, channels, 5, padding=2)
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        for conv in (self.first, self.second, self.last):
            fan_in = conv.weight[0].numel()
            nn.init.constant_(conv.weight, 1 / fan_in)
            nn.init.zeros_(conv.bias)

    def forward(self, image):
        h = F.leaky_relu(self.first(image), 0.1)
        h = F.leaky_relu(self.second(h), 0.1)
        return 0.5 * self.last(h)


model = Denoiser()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for step in range(200):
    noisy, clean = drawings(24)
    loss = F.mse_loss(model(noisy), clean)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    noisy, clean = drawings(500)
    print(f"final_loss {F.mse_loss(model(noisy), clean).item():.4f}")
