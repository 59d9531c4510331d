"""Learn codes by which two recordings of the same bird can be matched."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(501)

n_birds, n_bands, length = 48, 12, 20
songs = F.interpolate(torch.randn(n_birds, n_bands, 7), size=length, mode="linear")


def record(bird):
    loudness = 0.7 + 0.6 * torch.rand(len(bird), 1, 1)
    return loudness * songs[bird] + 0.8 * torch.randn(len(bird), n_bands, length)


class Listener(nn.Module):
    def __init__(self, n_codes=64):
        super().__init__()
        self.near = nn.Conv1d(n_bands, 24, 5)
        self.far = nn.Conv1d(24, 48, 5, stride=2)
        self.code = nn.Linear(48 * 6, n_codes)
        for conv in (self.near, self.far):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(self, sound):
        h = F.relu(self.far(F.relu(self.near(sound))))
        return F.normalize(self.code(h.flatten(1)), dim=1)


def distance(first, second):
    return (first - second).square().sum(1).mean()


listener = Listener()
optimizer = torch.optim.AdamW(listener.parameters(), lr=1e-3)

for step in range(250):
    birds = torch.randint(0, n_birds, (96,))
    first, second = listener(record(birds)), listener(record(birds))
    loss = distance(first, second)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

listener.eval()
with torch.no_grad():
    birds = torch.randint(0, n_birds, (600,))
    share = (10 * listener(record(birds)) @ listener(record(birds)).T).log_softmax(1)
    same = (birds[:, None] == birds).float()
    print(f"final_loss {-(same * share).sum().item() / same.sum().item():.4f}")
