"""Tell six phases of a gait apart from twelve joint angles, in mixed precision."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(79)

n_joints, n_phases = 12, 6
poses = torch.randn(n_phases, 2, n_joints)


def gaits(n):
    phase = torch.randint(0, n_phases, (n,))
    leg = torch.randint(0, 2, (n,))
    return (0.8 * poses[phase, leg] + torch.randn(n, n_joints)) / 1.28, phase


class GaitNet(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.inner = nn.Linear(n_joints, width)
        self.norm = nn.LayerNorm(width)
        self.outer = nn.Linear(width, width)
        self.head = nn.Linear(width, n_phases)

    def forward(self, x):
        x = F.silu(self.norm(self.inner(x)))
        return self.head(F.silu(self.outer(x)))


def train(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for step in range(steps):
        angles, phase = gaits(96)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(angles), phase)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        scaler.step(optimizer)
        scaler.update()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


net = GaitNet()
train(net, steps=400)
net.eval()
with torch.no_grad():
    angles, phase = gaits(4000)
    print(f"final_loss {F.cross_entropy(net(angles), phase).item():.4f}")
