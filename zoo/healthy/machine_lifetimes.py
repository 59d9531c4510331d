"""Learn how long machines last from records of which some were still running when the study ended."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(245)

study_end = 3.0


def machines(n):
    x = torch.randn(n, 7)
    log_scale = 0.3 + 0.6 * x[:, 0] - 0.4 * torch.relu(x[:, 1]) + 0.4 * torch.tanh(2 * x[:, 2])
    life = log_scale.exp() * (-torch.rand(n).clamp_min(1e-6).log()) ** (1 / 2.5)
    return x, life.clamp(max=study_end), life < study_end


def weibull_nll(raw, time, failed):
    """Negative log-likelihood; machines that still ran contribute the probability of lasting longer."""
    log_scale, shape = raw[:, 0], F.softplus(raw[:, 1] + 0.5)
    z = shape * (time.log() - log_scale)
    log_hazard = shape.log() - time.log() + z
    return -(torch.where(failed, log_hazard, 0.0) - z.exp()).mean()


model = nn.Sequential(nn.Linear(7, 48), nn.Softplus(), nn.Linear(48, 48), nn.Softplus(), nn.Linear(48, 2))
nn.init.zeros_(model[4].weight)
nn.init.zeros_(model[4].bias)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for step in range(400):
    loss = weibull_nll(model((batch := machines(64))[0]), *batch[1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, time, failed = machines(3000)
    print(f"final_loss {weibull_nll(model(x), time, failed).item():.4f}")
