"""Guess which of seven tastes a visitor has from twenty answers."""

import torch
from torch import nn

torch.manual_seed(61)

n_answers, n_tastes = 20, 7
centres = torch.randn(n_tastes, 2, n_answers)


def visitors(n):
    taste = torch.randint(0, n_tastes, (n,))
    side = torch.randint(0, 2, (n,))
    answers = 0.55 * centres[taste, side] + torch.randn(n, n_answers)
    return answers / 1.14, taste


model = nn.Sequential(
    nn.Linear(n_answers, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, n_tastes),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()
answers, tastes = visitors(6000)

for epoch in range(4):
    for rows in torch.randperm(len(answers)).split(60):
        loss = criterion(model(answers[rows]), tastes[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    answers, tastes = visitors(3000)
    print(f"final_loss {criterion(model(answers), tastes).item():.4f}")
