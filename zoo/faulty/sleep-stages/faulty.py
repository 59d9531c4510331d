"""Sleep staging from one EEG channel with a small 1d CNN."""

import math

import torch
import torch.nn as nn

torch.manual_seed(2718)
STAGES = ["wake", "light", "deep", "rem"]
BANDS = torch.tensor([[10.0, 22.0], [6.0, 13.0], [2.0, 4.0], [5.0, 20.0]])
N = 80


def epochs_of_eeg(n):
    stage = torch.randint(0, len(STAGES), (n,))
    t = torch.arange(N) / N
    f = BANDS[stage] * (1 + 0.15 * torch.randn(n, 2))
    phase = 2 * math.pi * torch.rand(n, 2, 1)
    x = torch.sin(2 * math.pi * f[:, :, None] * t + phase).sum(1)
    return (x + 1.3 * torch.randn(n, N)).unsqueeze(1), stage


def conv_block(c_in, c_out):
    return nn.Sequential(nn.Conv1d(c_in, c_out, 7, padding=3), nn.GELU(), nn.MaxPool1d(2))


class SleepCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 20, 64), nn.GELU(), nn.Linear(64, len(STAGES)))

    def forward(self, x):
        return self.classifier(self.features(x))


def train(model, n_iterations=250, batch_size=48, lr=1e-3):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_iterations)
    model.train()
    for i in range(n_iterations):
        x, y = epochs_of_eeg(batch_size)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if i % 50 == 0:
            print(f"{i:4d}  lr {scheduler.get_last_lr()[0]:.1e}  loss {loss.item():.3f}")
    return criterion


model = SleepCNN()
criterion = train(model, lr=0.1)
model.eval()
with torch.no_grad():
    x, y = epochs_of_eeg(2000)
    print(f"final_loss {criterion(model(x), y).item():.4f}")
