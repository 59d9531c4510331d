"""Find which corner of a 10x10 image holds the brighter patch, in mixed precision."""

import torch
from torch import nn

torch.manual_seed(8)

side, n_images = 10, 12_000


def images(n):
    corner = torch.randint(0, 4, (n,))
    picture = torch.randn(n, 1, side, side)
    for k in range(4):
        top, left = 6 * (k // 2), 6 * (k % 2)
        picture[corner == k, :, top : top + 4, left : left + 4] += 0.8
    return picture, corner


x, y = images(n_images)
order = torch.randperm(n_images)
x, y = x[order], y[order]

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.GroupNorm(4, 16),
    nn.SiLU(),
    nn.AvgPool2d(2),
    nn.Conv2d(16, 16, 3, padding=1),
    nn.GroupNorm(4, 16),
    nn.SiLU(),
    nn.Flatten(),
    nn.Linear(16 * 25, 4),
)


def train(model, x, y, steps=300, batch=50):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    model.train()
    for step in range(steps):
        at = step * batch % (len(x) - batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x[at : at + batch])
            loss = nn.functional.cross_entropy(logits, y[at : at + batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


train(model, x, y)
model.eval()
with torch.no_grad():
    x_test, y_test = images(1500)
    print(f"final_loss {nn.functional.cross_entropy(model(x_test), y_test).item():.4f}")
