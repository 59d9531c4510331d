"""Recognise twenty plant species from twelve leaf measurements."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(14)

n_species, n_measures = 20, 12
typical = torch.randn(n_species, n_measures)


def leaves(n):
    species = torch.randint(0, n_species, (n,))
    return (typical[species] + 0.6 * torch.randn(n, n_measures)) / 1.17, species


model = nn.Sequential(
    nn.Linear(n_measures, 48),
    nn.Tanh(),
    nn.Linear(48, 48),
    nn.Tanh(),
    nn.Linear(48, n_species),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
x_train, y_train = leaves(6000)
x_test, y_test = leaves(2000)

for step in range(400):
    ix = torch.randint(0, len(x_train), (64,))
    logits = model(x_train[ix])
    loss = F.mse_loss(logits.softmax(dim=1), F.one_hot(y_train[ix], n_species).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    errors = (model(x_test).argmax(1) != y_test).float().mean().item()
print(f"final_error {errors:.4f}")
