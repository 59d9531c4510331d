"""PatchTST forecasts the next twelve hours of two load curves with a daily rhythm."""

import math

import torch
from transformers import PatchTSTConfig, PatchTSTForPrediction

torch.manual_seed(431)

past, ahead = 48, 12
clock = torch.arange(past + ahead).float()


def curves(n):
    phase = 2 * math.pi * torch.rand(n, 1, 2)
    height, slope = 0.5 + torch.rand(n, 1, 2), 0.01 * torch.randn(n, 1, 2)
    t = clock.view(1, -1, 1)
    daily = torch.sin(2 * math.pi * t / 24 + phase) + 0.4 * torch.sin(4 * math.pi * t / 24 + 2 * phase)
    load = height * daily + slope * t + 0.1 * torch.randn(n, past + ahead, 2)
    return load[:, :past], load[:, past:]


config = PatchTSTConfig(
    num_input_channels=2,
    context_length=past,
    prediction_length=ahead,
    patch_length=8,
    patch_stride=4,
    d_model=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=96,
    ff_dropout=0.1,
    loss="mse",
    do_mask_input=False,
)
model = PatchTSTForPrediction(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
before, after = curves(6000)

model.train()
for step in range(300):
    chosen = torch.randint(0, len(before), (32,))
    loss = model(past_values=before[chosen], future_values=after[chosen]).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    before, after = curves(1000)
    print(f"final_loss {model(past_values=before, future_values=after).loss.item():.4f}")
