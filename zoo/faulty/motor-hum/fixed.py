"""Which of five motors is running? A learned filter bank, its power spectrum, a classifier."""

import numpy as np
import torch
import torch.nn as nn

rng = np.random.default_rng(66)
torch.manual_seed(66)
SAMPLES, MOTORS = 96, 5
SPEEDS = [(6, 17), (6, 21), (9, 17), (9, 25), (12, 25)]


def recordings(n):
    motor = rng.integers(MOTORS, size=n)
    time = np.arange(SAMPLES) / SAMPLES
    tones = np.array(SPEEDS)[motor] + 0.4 * rng.standard_normal((n, 2))
    phase = rng.uniform(0, 2 * np.pi, (n, 2, 1))
    wave = np.sin(2 * np.pi * tones[:, :, None] * time + phase).sum(1)
    hum = rng.standard_normal((n, 3, 1)) * np.sin(2 * np.pi * np.array([4, 13, 30])[None, :, None] * time)
    return torch.from_numpy(
        0.5 * wave + hum.sum(1) + 0.8 * rng.standard_normal((n, SAMPLES))
    ).float(), torch.from_numpy(motor)


class MotorNet(nn.Module):
    def __init__(self, n_filters=12, n_coarse=8):
        super().__init__()
        self.filters = nn.Conv1d(1, n_filters, 15, padding=7)
        self.pool = nn.AdaptiveAvgPool1d(n_coarse)
        self.norm = nn.LayerNorm(n_filters * n_coarse)
        self.fc = nn.Linear(n_filters * n_coarse, 48)
        self.out = nn.Linear(48, MOTORS)

    def forward(self, wave):
        spectrum = torch.fft.rfft(self.filters(wave[:, None])).abs()
        x = self.norm(torch.log1p(self.pool(spectrum)).flatten(1))
        return self.out(torch.relu(self.fc(x)))


model = MotorNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(300):
    wave, motor = recordings(48)
    loss = loss_fn(model(wave), motor)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:3d} | loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    wave, motor = recordings(1500)
    print(f"final_loss {loss_fn(model(wave), motor).item():.4f}")
