"""Compress noisy sonic logs to eight numbers and give back the clean log."""

import math

import torch
import torch.nn as nn


class Encoder(nn.Module):
    def __init__(self, length, code):
        super().__init__()
        self.hidden = nn.Linear(length, 96)
        self.code = nn.Linear(96, code)

    def forward(self, x):
        return self.code(torch.tanh(self.hidden(x)))


class Decoder(nn.Module):
    def __init__(self, length, code):
        super().__init__()
        self.hidden = nn.Linear(code, 96)
        self.out = nn.Linear(96, length)

    def forward(self, z):
        return self.out(torch.tanh(self.hidden(z)))


def make_logs(n, length=48):
    depth = torch.linspace(0, 1, length)
    phase, rate = 2 * math.pi * torch.rand(n, 1), 2 + 2 * torch.rand(n, 1)
    boundary = 0.2 + 0.6 * torch.rand(n, 1)
    clean = torch.sin(2 * math.pi * rate * depth + phase) + 1.5 * torch.tanh(20 * (depth - boundary))
    clean = clean / 1.6
    return clean + 0.3 * torch.randn(n, length), clean


def main():
    torch.manual_seed(5)
    noisy, clean = make_logs(5000)
    encoder, decoder = Encoder(48, 8), Decoder(48, 8)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)

    for step in range(500):
        rows = torch.randint(0, 4500, (64,))
        restored = decoder(encoder(noisy[rows]))
        loss = criterion(restored, clean[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f} lr {scheduler.get_last_lr()[0]:.5f}")

    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        restored = decoder(encoder(noisy[4500:]))
        print(f"final_loss {criterion(restored, clean[4500:]).item():.5f}")


if __name__ == "__main__":
    main()
