"""Name the vowel in a short synthetic sound."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(52)

n_samples = 40
formants = torch.tensor([[2.0, 7.0], [3.0, 5.0], [2.5, 9.0], [4.0, 8.0], [3.5, 6.0]])
time = torch.linspace(0, 1, n_samples)


def sounds(n):
    vowel = torch.randint(0, len(formants), (n,))
    pitch = formants[vowel] + 0.15 * torch.randn(n, 2)
    phase = 2 * math.pi * torch.rand(n, 2, 1)
    waves = torch.sin(2 * math.pi * pitch.unsqueeze(2) * time + phase)
    return waves.sum(1, keepdim=True) + 0.3 * torch.randn(n, 1, n_samples), vowel


class VowelNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = nn.Conv1d(1, 24, 11)
        self.mix = nn.Conv1d(24, 24, 5, stride=2)
        self.norm = nn.BatchNorm1d(24)
        self.head = nn.Linear(24, len(formants))

    def forward(self, sound):
        h = F.leaky_relu(self.filters(sound))
        h = F.leaky_relu(self.mix(h))
        return F.log_softmax(self.head(self.norm(h.mean(2))), dim=1)


x_train, y_train = sounds(5000)
x_test, y_test = sounds(1200)
model = VowelNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)

for step in range(300):
    ix = torch.randint(0, len(x_train), (40,))
    log_probs = model(x_train[ix])
    loss = F.nll_loss(log_probs, y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.nll_loss(model(x_test), y_test).item():.4f}")
