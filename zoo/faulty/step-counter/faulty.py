"""Tell from a wrist sensor's signal whether its wearer was walking faster at the end."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(44)

n_steps, n_channels = 14, 3


def record(n):
    """Return signals (n, n_steps, n_channels) and whether the pace rose."""
    trend = torch.randn(n)
    moments = []
    for t in range(n_steps):
        pace = trend * (t / (n_steps - 1) - 0.5) * 2
        moments.append(torch.stack([pace, -pace, 0.5 * pace.abs()], dim=1) + torch.randn(n, n_channels))
    signal = torch.stack(moments)
    return signal.reshape(n, n_steps, n_channels) / 1.2, (trend > 0).float()


class PaceNet(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(n_channels, hidden, batch_first=True)
        self.score = nn.Linear(hidden, 1)

    def forward(self, signal):
        _, last = self.gru(signal)
        return self.score(last[0]).squeeze(-1)


net = PaceNet()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)

for step in range(1, 351):
    signal, rose = record(80)
    loss = F.binary_cross_entropy_with_logits(net(signal), rose)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

net.eval()
with torch.no_grad():
    signal, rose = record(3000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(net(signal), rose).item():.4f}")
