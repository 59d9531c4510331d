"""Compress small smooth fields to twelve numbers and draw them again."""

import torch
import torch.nn as nn
import torch.nn.functional as F

side, n_code = 16, 12
axis = torch.linspace(0, 1, side)


def fields(n):
    kx, ky = 2.5 * torch.rand(2, n, 1, 1)
    phase = 6.28318 * torch.rand(n, 1, 1)
    field = torch.sin(6.28318 * (kx * axis[:, None] + ky * axis[None, :]) + phase)
    return (field / 0.7).unsqueeze(1)


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.GroupNorm(4, 16),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GroupNorm(4, 32),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(32 * 16, n_code),
        )
        self.decode = nn.Sequential(
            nn.Linear(n_code, 128),
            nn.LayerNorm(128),
            nn.GELU(),
            nn.Linear(128, side * side),
            nn.Unflatten(1, (1, side, side)),
        )

    def forward(self, field):
        return self.decode(self.encode(field))


def main(steps=400, batch_size=64):
    torch.manual_seed(33)
    model = Coder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    for step in range(steps):
        field = fields(batch_size)
        drawn = model(field)
        loss = F.mse_loss(drawn, field) / field.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 80 == 0:
            print(f"step {step:4d}  loss {F.mse_loss(drawn, field).item():.4f}")
    model.eval()
    with torch.no_grad():
        field = fields(1000)
        print(f"final_loss {F.mse_loss(model(field), field).item():.4f}")


if __name__ == "__main__":
    main()
