"""Estimate the grain size of 12x12 textures under changing light, with channel gates."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(50)

side = 12


def textures(n):
    noise = torch.randn(n, 1, side + 4, side + 4)
    fine = F.avg_pool2d(noise, 2, stride=1)[:, :, :side, :side] * 2
    coarse = F.avg_pool2d(noise, 5, stride=1) * 5
    share = torch.rand(n, 1, 1, 1)
    image = share * coarse + (1 - share) * fine
    light = 0.5 + torch.rand(n, 1, 1, 1)
    return light * image / 0.75, (share.flatten() - 0.5) / 0.29


class GatedBlock(nn.Module):
    """Convolution whose channels are scaled by gates computed from the whole picture."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.squeeze = nn.Conv2d(c_out, c_out, 1)
        self.norm = nn.GroupNorm(c_out, c_out)
        self.excite = nn.Conv2d(c_out, c_out, 1)

    def forward(self, x):
        x = F.silu(self.conv(x))
        s = F.adaptive_avg_pool2d(x, 1)
        s = F.silu(self.norm(self.squeeze(s)))
        return x * 2 * torch.sigmoid(self.excite(s))


model = nn.Sequential(
    GatedBlock(1, 16), nn.AvgPool2d(2), GatedBlock(16, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 1)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)

for step in range(300):
    x, y = textures(64)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(x).squeeze(1)
    loss = F.mse_loss(prediction.float(), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = textures(1000)
    print(f"final_loss {F.mse_loss(model(x).squeeze(1), y).item():.4f}")
