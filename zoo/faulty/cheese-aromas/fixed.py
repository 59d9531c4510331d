"""Which dairy does a cheese come from? Gas-chromatogram peaks in, dairy out."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--hidden", type=int, default=128)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=5)
args = parser.parse_args()

torch.manual_seed(args.seed)
N_PEAKS, N_DAIRIES = 24, 10
profiles = torch.randn(N_DAIRIES, 2, N_PEAKS)


def sample(n):
    dairy = torch.randint(N_DAIRIES, (n,))
    season = torch.randint(2, (n,))
    x = 0.8 * profiles[dairy, season] + 0.9 * torch.randn(n, N_PEAKS)
    return x, dairy


class DairyNet(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.fc1 = nn.Linear(N_PEAKS, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, N_DAIRIES)
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.fc2.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        for layer in (self.fc1, self.fc2, self.head):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.head(x)


net = DairyNet(args.hidden)
loss_fn = nn.CrossEntropyLoss()
opt = torch.optim.Adam(net.parameters(), lr=args.lr)

for it in range(1, args.steps + 1):
    x, y = sample(args.batch_size)
    loss = loss_fn(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(f"iter {it}: {loss.item():.3f}")

net.eval()
with torch.no_grad():
    x, y = sample(4000)
    print(f"final_loss {loss_fn(net(x), y).item():.4f}")
