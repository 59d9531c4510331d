"""Value used boats from a catalogue that lists the cheapest first."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(97)

n_features = 8
taste = torch.randn(n_features, 4) / n_features**0.5


def boats(n):
    x = torch.randn(n, n_features)
    a, b, c, d = (x @ taste).unbind(1)
    price = torch.tanh(2 * a) + b * c + d + 0.1 * torch.randn(n)
    return x, price / 1.6


class Valuer(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(n_features, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
        )
        self.out = nn.Linear(width, 1)
        nn.init.normal_(self.out.weight, std=0.03)

    def forward(self, x):
        return self.out(self.hidden(x)).squeeze(1)


def train(model, x, price, n_epochs, batch_size=64):
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.95)
    for epoch in range(n_epochs):
        order = torch.arange(len(x))
        for ix in order.split(batch_size):
            loss = F.smooth_l1_loss(model(x[ix]), price[ix])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


x, price = boats(4000)
catalogue = price.argsort()
model = Valuer()
train(model, x[catalogue], price[catalogue], n_epochs=7)

model.eval()
with torch.no_grad():
    x, price = boats(2000)
    print(f"final_loss {F.smooth_l1_loss(model(x), price).item():.4f}")
