"""Tell rising, falling, calm and nervous markets apart by thirty daily returns."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(47)

days, daily_move = 30, 0.008
drift = torch.tensor([0.002, -0.002, 0.0, 0.0])
spread = torch.tensor([0.008, 0.008, 0.005, 0.011])


def markets(n):
    regime = torch.randint(0, 4, (n,))
    shock = torch.randn(n, days)
    returns = (drift[regime, None] + spread[regime, None] * shock).unsqueeze(2)
    return returns / daily_move, regime


class Reader(nn.Module):
    def __init__(self, n_hidden=32):
        super().__init__()
        self.rnn = nn.GRU(1, n_hidden, batch_first=True)
        self.head = nn.Linear(n_hidden, 4)

    def forward(self, returns):
        states, _ = self.rnn(returns)
        return self.head(states.mean(1))


def train(model, loader, n_epochs):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(n_epochs):
        for returns, regime in loader:
            loss = criterion(model(returns), regime)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


model = Reader()
train(model, DataLoader(TensorDataset(*markets(4000)), batch_size=64, shuffle=True), n_epochs=4)

model.eval()
with torch.no_grad():
    returns, regime = markets(2000)
    print(f"final_loss {nn.functional.cross_entropy(model(returns), regime).item():.4f}")
