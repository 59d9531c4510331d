"""Attach the few fitting tags out of a thousand to every recipe, in half precision."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(71)

n_features, n_tags, n_styles = 24, 1000, 40
styles = torch.randn(n_styles, n_features)
tags_of_style = torch.randint(0, n_tags, (n_styles, 4))


def recipes(n):
    style = torch.randint(0, n_styles, (n,))
    x = (styles[style] + 0.5 * torch.randn(n, n_features)) / 1.12
    return x, torch.zeros(n, n_tags).scatter_(1, tags_of_style[style], 1.0)


model = nn.Sequential(nn.Linear(n_features, 64), nn.GELU(), nn.Linear(64, n_tags))
nn.init.normal_(model[-1].weight, std=0.02)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-10)

for step in range(200):
    x, tags = recipes(256)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = F.binary_cross_entropy_with_logits(model(x), tags)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.5f}")

model.eval()
with torch.no_grad():
    x, tags = recipes(2000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(x), tags).item():.5f}")
