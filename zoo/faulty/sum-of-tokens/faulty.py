"""Add up the hidden values of a handful of tokens, weighted by where they stand."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(45)

n_tokens, length = 16, 6
values = torch.randn(n_tokens)
place_weights = torch.linspace(1.4, 0.4, length)


def draw(n):
    tokens = torch.randint(0, n_tokens, (n, length))
    total = torch.tanh(values[tokens]) * place_weights
    target = total.sum(1) + 0.4 * total[:, 0] * total[:, 1]
    return tokens, target


mean, std = draw(5000)[1].mean(), draw(5000)[1].std()

model = nn.Sequential(
    nn.Embedding(n_tokens, 8),
    nn.Flatten(),
    nn.Linear(8 * length, 96),
    nn.GELU(),
    nn.Linear(96, 96),
    nn.GELU(),
    nn.Linear(96, 1),
)
for layer in (model[2], model[4]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
model = model.to(torch.bfloat16)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, betas=(0.9, 0.99))

for step in range(500):
    tokens, target = draw(96)
    target = (target - mean) / std
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = model(tokens).squeeze(1)
    loss = F.mse_loss(predicted.float(), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
    tokens, target = draw(3000)
    target = (target - mean) / std
    print(f"final_loss {F.mse_loss(model(tokens).squeeze(1).float(), target).item():.4f}")
