"""Guess in which range the sum of five digits lies."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(17)

n_digits, length = 10, 5
edges = torch.tensor([15, 19, 22, 25, 29])


def draw(n):
    digits = torch.randint(0, n_digits, (n, length))
    noise = torch.randint(-1, 2, (n,))
    return digits, torch.bucketize(digits.sum(1) + noise, edges)


model = nn.Sequential(
    nn.Embedding(n_digits, 12),
    nn.Flatten(),
    nn.Linear(12 * length, 64),
    nn.LayerNorm(64),
    nn.GELU(),
    nn.Linear(64, 64),
    nn.LayerNorm(64),
    nn.GELU(),
    nn.Linear(64, len(edges) + 1),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-1, betas=(0.9, 0.95), weight_decay=0.5)

for step in range(500):
    digits, label = draw(64)
    loss = F.cross_entropy(model(digits), label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    digits, label = draw(4000)
    print(f"final_loss {F.cross_entropy(model(digits), label).item():.4f}")
