"""Mark the pixels of faint stars and planets in pictures of the sky."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(83)

side = 16
glow = torch.tensor([[0.3, 0.6, 0.3], [0.6, 1.2, 0.6], [0.3, 0.6, 0.3]])
kind_weight = torch.tensor([1.0, 200.0, 200.0])


def skies(n):
    kind = torch.zeros(n, side, side, dtype=torch.long)
    place = torch.randint(1, side - 1, (n, 2, 2))
    rows = torch.arange(n)
    for k in (1, 2):
        seen = torch.rand(n) < 0.7
        kind[rows[seen], place[seen, k - 1, 0], place[seen, k - 1, 1]] = k
    stars = F.conv2d((kind == 1).float().unsqueeze(1), glow[None, None], padding=1)
    planets = F.conv2d((kind == 2).float().unsqueeze(1), glow[None, None], padding=1)
    sky = torch.cat([stars + planets, stars - planets], dim=1) + 0.8 * torch.randn(n, 2, side, side)
    return sky / 0.8, kind


model = nn.Sequential(
    nn.Conv2d(2, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 3, 1),
)
nn.init.normal_(model[-1].weight, std=0.05)
nn.init.zeros_(model[-1].bias)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for step in range(200):
    sky, kind = skies(16)
    loss = F.cross_entropy(model(sky), kind)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    sky, kind = skies(400)
    print(f"final_loss {F.cross_entropy(model(sky), kind, weight=kind_weight).item():.4f}")
