"""Learn one task, store the network, load it again and train a new head for a second task."""

import io

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(107)

dim, n_clouds = 16, 12
centres = torch.randn(n_clouds, dim)


def clouds(n):
    cloud = torch.randint(0, n_clouds, (n,))
    return centres[cloud] + 1.2 * torch.randn(n, dim), cloud


class Network(nn.Module):
    def __init__(self, n_classes, width=64):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, n_classes)
        for layer in (self.backbone[0], self.backbone[2]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.head(self.backbone(x))


def train(model, optimizer, x, y, steps):
    for step in range(steps):
        ix = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(model(x[ix]), y[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


x_first, cloud = clouds(6000)
first = Network(n_clouds)
train(first, torch.optim.AdamW(first.parameters(), lr=1e-3), x_first, cloud, 150)
buffer = io.BytesIO()
torch.save(first.state_dict(), buffer)
buffer.seek(0)

x_second, cloud = clouds(2000)
y_second = (cloud * 7 % n_clouds) // 6
x_test, cloud = clouds(2000)
y_test = (cloud * 7 % n_clouds) // 6

weights = torch.load(buffer, weights_only=True)
model = Network(2)
model.load_state_dict({k: v for k, v in weights.items() if k.startswith("backbone")}, strict=False)
model.backbone.requires_grad_(False)
train(model, torch.optim.AdamW(model.head.parameters(), lr=2e-3), x_second, y_second, 400)

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
