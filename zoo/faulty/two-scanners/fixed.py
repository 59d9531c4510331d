"""Tell four textures apart in 8x8 scans that come from two scanners."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(43)

side = 8
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
waves = torch.stack([torch.sin(1.5 * row), torch.sin(1.5 * col), torch.sin(row + col), torch.sin(row - col)])


def scans(n, contrast, brightness):
    label = torch.randint(0, 4, (n,))
    image = waves[label] * (0.5 + torch.rand(n, 1, 1)) + 0.8 * torch.randn(n, side, side)
    return (contrast * image + brightness).unsqueeze(1), label


class TextureNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3)
        self.fc = nn.Linear(2 * width, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)))
        x = F.relu(self.conv2(x))
        return self.fc(x.mean((2, 3)))


model = TextureNet()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

for step in range(400):
    old_x, old_y = scans(32, 0.4, -0.8)
    new_x, new_y = scans(32, 1.4, 0.8)
    logits = model(torch.cat([old_x, new_x]))
    loss = F.cross_entropy(logits, torch.cat([old_y, new_y]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    losses = [F.cross_entropy(model(x), y) for x, y in (scans(1000, 0.4, -0.8), scans(1000, 1.4, 0.8))]
print(f"final_loss {torch.stack(losses).mean().item():.4f}")
