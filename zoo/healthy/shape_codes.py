"""A convolutional autoencoder squeezes pictures of a soft disc into three numbers."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(217)

side = 12
axis = torch.linspace(-1, 1, side)
row, col = torch.meshgrid(axis, axis, indexing="ij")


def discs(n):
    centre = (torch.rand(n, 2, 1, 1) - 0.5) * 1.2
    radius = 0.25 + 0.35 * torch.rand(n, 1, 1)
    distance = ((row - centre[:, 0]) ** 2 + (col - centre[:, 1]) ** 2).sqrt()
    image = torch.sigmoid((radius - distance) * 10)
    return ((image - 0.2) / 0.35 + 0.1 * torch.randn(n, side, side)).unsqueeze(1)


class Encoder(nn.Module):
    def __init__(self, n_code):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.code = nn.Linear(16 * 9, n_code)

    def forward(self, x):
        x = F.silu(self.conv1(x))
        x = F.silu(self.conv2(x))
        return self.code(x.flatten(1))


class Decoder(nn.Module):
    def __init__(self, n_code):
        super().__init__()
        self.spread = nn.Linear(n_code, 16 * 9)
        self.up1 = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1)

    def forward(self, code):
        x = F.silu(self.spread(code)).view(-1, 16, 3, 3)
        return self.up2(F.silu(self.up1(x)))


encoder, decoder = Encoder(3), Decoder(3)
for module in (*encoder.modules(), *decoder.modules()):
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)

for step in range(350):
    x = discs(48)
    loss = F.mse_loss(decoder(encoder(x)), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

encoder.eval()
decoder.eval()
with torch.no_grad():
    x = discs(1000)
    print(f"final_loss {F.mse_loss(decoder(encoder(x)), x).item():.4f}")
