"""Train on batches of sixteen, stepping after every fourth."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(108)

dim, micro_batch, micro_steps = 12, 16, 4


def rings(n):
    x = torch.randn(n, dim)
    score = x[:, :4].norm(dim=1) - x[:, 4:8].norm(dim=1) + 0.1 * torch.randn(n)
    return x, torch.bucketize(score, torch.tensor([-0.6, 0.0, 0.6]))


x_train, y_train = rings(10_000)
x_test, y_test = rings(2000)

model = nn.Sequential(nn.Linear(dim, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 4))
for layer in (model[0], model[2]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

for step in range(300):
    optimizer.zero_grad()
    total = 0.0
    for _ in range(micro_steps):
        ix = torch.randint(0, len(x_train), (micro_batch,))
        loss = F.cross_entropy(model(x_train[ix]), y_train[ix]) / micro_steps
        loss.backward()
        total += loss.item()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {total:.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
