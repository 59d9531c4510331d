"""A wide network learns to sort spirals, then a narrow one learns from its softened answers."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(247)

n_arms, temperature = 3, 3.0


def spirals(n):
    arm = torch.randint(0, n_arms, (n,))
    r = torch.rand(n).sqrt() * 2
    angle = 2 * math.pi * arm / n_arms + 1.5 * r + 0.2 * torch.randn(n)
    return torch.stack([r * angle.cos(), r * angle.sin()], dim=1), arm


def mlp(width):
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, n_arms))


teacher = mlp(96)
optimizer = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for step in range(250):
    x, y = spirals(96)
    loss = F.cross_entropy(teacher(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"teacher  step {step:4d}  loss {loss.item():.4f}")

teacher.eval()
student = mlp(24)
optimizer = torch.optim.Adam(student.parameters(), lr=4e-3)
for step in range(250):
    x, y = spirals(96)
    with torch.no_grad():
        answer = F.log_softmax(teacher(x) / temperature, dim=1)
    logits = student(x)
    soft = F.kl_div(F.log_softmax(logits / temperature, dim=1), answer, reduction="batchmean", log_target=True)
    loss = 0.7 * temperature**2 * soft + 0.3 * F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"student  step {step:4d}  loss {loss.item():.4f}")

student.eval()
with torch.no_grad():
    x, y = spirals(3000)
    print(f"final_loss {F.cross_entropy(student(x), y).item():.4f}")
