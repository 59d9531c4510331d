"""Tell which of four pendulums made a pair of angle and speed histories, with bfloat16 autocast."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(237)

n_times = 12
clock = torch.linspace(0, 3, n_times)


def histories(n):
    kind = torch.randint(0, 4, (n,))
    pace = torch.where(kind % 2 == 0, 2.0, 2.8).unsqueeze(1)
    damping = torch.where(kind < 2, 0.1, 0.7).unsqueeze(1)
    start = 6.3 * torch.rand(n, 1)
    swing = 1.5 * torch.exp(-damping * clock)
    angle, speed = swing * torch.cos(pace * clock + start), -swing * torch.sin(pace * clock + start)
    x = torch.cat([angle, speed], dim=1)
    return x + 0.25 * torch.randn_like(x), kind


model = nn.Sequential(
    nn.Linear(2 * n_times, 96),
    nn.GELU(),
    nn.Linear(96, 96),
    nn.GELU(),
    nn.Linear(96, 4),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)


def loss_of(x, y):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    return F.cross_entropy(logits.float(), y)


for step in range(400):
    loss = loss_of(*histories(64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(*histories(3000)).item():.4f}")
