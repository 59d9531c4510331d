"""Poisson regression of the number of visits to a shop in an hour."""

import torch
import torch.nn as nn

torch.manual_seed(244)


def hours(n):
    x = torch.randn(n, 5)
    log_rate = 0.7 + 0.5 * x[:, 0] - 0.4 * x[:, 1] ** 2 + 0.4 * torch.sin(2 * x[:, 2]) * x[:, 3]
    return x, torch.poisson(log_rate.exp())


class Visits(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 48)
        self.fc2 = nn.Linear(48, 48)
        self.log_rate = nn.Linear(48, 1)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.log_rate(x).squeeze(-1)


model = Visits()
criterion = nn.PoissonNLLLoss(log_input=True)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x_train, n_train = hours(6000)
x_test, n_test = hours(3000)

for step in range(400):
    ix = torch.randint(0, len(x_train), (64,))
    optimizer.zero_grad()
    loss = criterion(model(x_train[ix]), n_train[ix])
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {criterion(model(x_test), n_test).item():.4f}")
