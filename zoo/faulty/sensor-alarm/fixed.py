"""Raise an alarm when four sensor readings together exceed a limit."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(3)


def readings(n):
    x = torch.randn(n, 4)
    strength = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + x[:, 0] - x[:, 3] + 0.2 * torch.randn(n)
    return x, (strength > 0).float()


x_train, y_train = readings(8000)
x_test, y_test = readings(2000)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)


model = nn.Sequential(
    nn.Linear(4, 32),
    nn.Tanh(),
    nn.Linear(32, 1),
)
model.apply(init_weights)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(600):
    ix = torch.randint(0, len(x_train), (100,))
    logits = model(x_train[ix]).squeeze(1)
    loss = F.binary_cross_entropy_with_logits(logits, y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    test_loss = F.binary_cross_entropy_with_logits(model(x_test).squeeze(1), y_test)
print(f"final_loss {test_loss.item():.4f}")
