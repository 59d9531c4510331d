"""Find by how many samples an echo follows its sound."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(47)

length, n_delays = 24, 3


def echoes(n):
    delay = torch.randint(0, n_delays, (n,))
    sound = torch.randn(n, length + n_delays)
    rows = torch.arange(n)[:, None]
    now = torch.arange(length) + n_delays
    heard = sound[rows, now] + 0.9 * sound[rows, now - delay[:, None] - 1] + 0.2 * torch.randn(n, length)
    return heard / 1.36, delay


class EchoNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.listen = nn.LSTM(1, width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.judge = nn.Sequential(nn.Linear(width, 32), nn.SiLU(), nn.Linear(32, n_delays))

    def forward(self, heard):
        states, _ = self.listen(heard.unsqueeze(2))
        return self.judge(self.norm(states).mean(1))


model = EchoNet()
optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3, eps=1e-8)
for step in range(400):
    heard, delay = echoes(64)
    loss = F.cross_entropy(model(heard), delay)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    heard, delay = echoes(1500)
    print(f"final_loss {F.cross_entropy(model(heard), delay).item():.4f}")
