"""From what lies in a basket (item counts) to what the customer came for."""

import torch
import torch.nn as nn

torch.manual_seed(23)
torch.set_printoptions(precision=3)

N_ITEMS, N_ERRANDS = 40, 6
rates = torch.distributions.Gamma(0.6, 0.5).sample((N_ERRANDS, N_ITEMS))


def baskets(n):
    errand = torch.randint(0, N_ERRANDS, (n,))
    appetite = torch.exp(0.5 * torch.randn(n, 1))
    noise = torch.distributions.Gamma(1.0, 1.0).sample((n, N_ITEMS))
    counts = torch.poisson(0.5 * rates[errand] * appetite * noise + 0.3)
    return counts, errand


class BasketNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(N_ITEMS, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
        self.classifier = nn.Linear(64, N_ERRANDS)

    def forward(self, counts):
        x = torch.log1p(counts)
        return self.classifier(self.encoder(x))


net = BasketNet()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

for step in range(300):
    counts, errand = baskets(64)
    loss = criterion(net(counts), errand)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 60 == 0:
        print(f"{step + 1:>4} {loss.item():.4f}")

net.eval()
with torch.no_grad():
    counts, errand = baskets(3000)
    print(f"final_loss {nn.functional.cross_entropy(net(counts), errand).item():.4f}")
