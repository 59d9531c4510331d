"""Three tasks from one picture: age (regression), glasses (binary), hair (4 classes); learned task weights."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(31)
S = 24
axis = torch.linspace(-1, 1, S)
GY, GX = torch.meshgrid(axis, axis, indexing="ij")


def portraits(n):
    age = torch.rand(n)
    glasses = (torch.rand(n) < 0.4).float()
    hair = torch.randint(0, 4, (n,))
    col = lambda v: v.view(-1, 1, 1)  # noqa: E731
    head = ((GX / 0.7) ** 2 + (GY / 0.9) ** 2 < 1).float()
    wrinkles = 0.25 * col(age) * torch.sin(16 * GY + 6.28 * torch.rand(n, 1, 1)) * head
    img = 0.6 * head + wrinkles
    rim = sum((((GX - s * 0.3) ** 2 + (GY + 0.15) ** 2).sqrt() - 0.2).abs() < 0.06 for s in (-1, 1)).float()
    img = img - 0.5 * col(glasses) * rim
    top = (GY < -0.5).float() * head
    stripes = torch.stack([torch.zeros(S, S), top, top * (GX > 0), top * (torch.sin(14 * GX) > 0)])
    img = img + 0.4 * stripes[hair] + 0.12 * torch.randn(n, S, S)
    return img.unsqueeze(1), {"age": age * 60 + 18, "glasses": glasses, "hair": hair}


class MultiTaskNet(nn.Module):
    def __init__(self, feat=64):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 36, feat),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict(
            {"age": nn.Linear(feat, 1), "glasses": nn.Linear(feat, 1), "hair": nn.Linear(feat, 4)}
        )
        self.log_vars = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        shared = self.trunk(x)
        return {name: head(shared) for name, head in self.heads.items()}


def task_losses(out, target):
    return torch.stack(
        [
            F.smooth_l1_loss(out["age"].squeeze(1), (target["age"] - 48) / 17.3),
            F.binary_cross_entropy_with_logits(out["glasses"].squeeze(1), target["glasses"]),
            F.cross_entropy(out["hair"], target["hair"]),
        ]
    )


model = MultiTaskNet()
optimizer = torch.optim.AdamW(
    [
        {"params": [p for n, p in model.named_parameters() if n != "log_vars"], "weight_decay": 0.01},
        {"params": [model.log_vars], "weight_decay": 0.0},
    ],
    lr=1e-3,
)
STEPS, WARMUP = 300, 30
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda s: min(1.0, (s + 1) / WARMUP) * (1 - max(0, s - WARMUP) / (STEPS - WARMUP + 1))
)

for step in range(STEPS):
    x, target = portraits(48)
    losses = task_losses(model(x), target)
    loss = (torch.exp(-model.log_vars) * losses + 0.5 * model.log_vars).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 50 == 0:
        age, glasses, hair = losses.tolist()
        print(f"{step:4d} total {loss.item():.3f} | age {age:.3f} glasses {glasses:.3f} hair {hair:.3f}")

model.eval()
with torch.no_grad():
    x, target = portraits(1000)
    out = model(x)
    losses = task_losses(out, target)
    mae = (out["age"].squeeze(1) * 17.3 + 48 - target["age"]).abs().mean()
    print(f"age off by {mae:.1f} years, hair right in {(out['hair'].argmax(1) == target['hair']).float().mean():.3f}")
    print(f"final_loss {losses.sum().item():.4f}")
