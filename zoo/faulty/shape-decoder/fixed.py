"""Draw 12x12 pictures of rings from four numbers that describe them."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(53)

side = 12
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def rings(n):
    code = 2 * torch.rand(n, 4) - 1
    top, left, radius, width = (part.view(-1, 1, 1) for part in code.unbind(1))
    distance = ((row - 5.5 - 2 * top) ** 2 + (col - 5.5 - 2 * left) ** 2).sqrt()
    image = torch.exp(-(((distance - 3 - radius) / (1 + 0.5 * width)) ** 2))
    return code / 0.58, (image.unsqueeze(1) - 0.33) / 0.36


class Decoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.start = nn.Linear(4, width * 9)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (width, 3, 3)),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, 1, 3, padding=1),
        )

    def forward(self, code):
        return self.layers(self.start(code))


model = Decoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(200):
    code, image = rings(32)
    loss = F.mse_loss(model(code), image)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    code, image = rings(500)
    print(f"final_loss {F.mse_loss(model(code), image).item():.4f}")
