"""Small traffic signs, drawn on the fly, and a VGG-ish CNN with batch norm."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--wd", type=float, default=5e-4)
parser.add_argument("--batch-size", type=int, default=48)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args([])
torch.manual_seed(args.seed)

SIZE = 20
yy, xx = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")


def draw(n):
    """Class = shape (circle, triangle, square, diamond) x rim colour (red, blue)."""
    label = torch.randint(0, 8, (n,))
    cx, cy = (torch.rand(2, n, 1, 1) - 0.5) * 0.5
    r = 0.45 + 0.3 * torch.rand(n, 1, 1)
    x, y = (xx - cx) / r, (yy - cy) / r
    shapes = torch.stack(
        [
            (x**2 + y**2).sqrt(),
            torch.maximum(-y + 0.2, 0.87 * x.abs() * 1.15 + 0.5 * y + 0.2),
            torch.maximum(x.abs(), y.abs()) * 1.15,
            (x.abs() + y.abs()) * 0.95,
        ],
        dim=1,
    )
    d = shapes[torch.arange(n), label % 4]
    rim = ((d < 1) & (d > 0.65)).float()
    inner = (d <= 0.65).float()
    colour = torch.where((label // 4 == 0).view(-1, 1), torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8]))
    background = torch.rand(n, 3, 1, 1) * 0.6
    img = background * (1 - rim - inner).unsqueeze(1) + colour.view(n, 3, 1, 1) * rim.unsqueeze(1)
    img = img + 0.9 * inner.unsqueeze(1)
    img = img * (0.5 + 0.7 * torch.rand(n, 1, 1, 1)) + 0.15 * torch.randn(n, 3, SIZE, SIZE)
    return (img - 0.45) / 0.3, label


def block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


class SignNet(nn.Module):
    def __init__(self, num_classes=8):
        super().__init__()
        self.features = nn.Sequential(block(3, 16), block(16, 32), block(32, 64))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x))


net = SignNet()
optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.wd, nesterov=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)

net.train()
for it in range(args.steps):
    images, labels = draw(args.batch_size)
    logits = net(images)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    scheduler.step()
    if (it + 1) % 40 == 0:
        acc = (logits.argmax(1) == labels).float().mean()
        print(f"[{it + 1}/{args.steps}] loss: {loss.item():.3f} acc: {acc:.2f} lr: {scheduler.get_last_lr()[0]:.4f}")

net.eval()
with torch.no_grad():
    images, labels = draw(1000)
    logits = net(images)
print("test accuracy", (logits.argmax(1) == labels).float().mean().item())
print("final_loss", F.cross_entropy(logits, labels).item())
