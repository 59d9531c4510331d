"""A small convnet of depthwise and pointwise convolutions names the weave of coloured fabric."""

import torch
from torch import nn

torch.manual_seed(228)

side, n_weaves = 12, 4
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
weaves = torch.stack([(row + col) % 2, (row + col) % 4 // 2, (row - col) % 4 // 2, row % 4 // 2 ^ col % 4 // 2]).float()


def fabrics(n):
    weave = torch.randint(0, n_weaves, (n,))
    shift = torch.randint(0, 4, (n,)).tolist()
    pattern = torch.stack([weaves[w].roll((s, s // 2), (0, 1)) for w, s in zip(weave.tolist(), shift, strict=True)])
    warp, weft = torch.randn(2, n, 3, 1, 1)
    image = warp + (weft - warp) * pattern.unsqueeze(1)
    return (image + 0.5 * torch.randn(n, 3, side, side)) / 1.1, weave


class Separable(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride=stride, padding=1, groups=c_in, bias=False)
        self.norm1 = nn.BatchNorm2d(c_in)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)

    def forward(self, x):
        x = torch.relu(self.norm1(self.depthwise(x)))
        return torch.relu(self.norm2(self.pointwise(x)))


model = nn.Sequential(
    nn.Conv2d(3, 12, 3, padding=1, bias=False),
    nn.BatchNorm2d(12),
    nn.ReLU(),
    Separable(12, 24, stride=2),
    Separable(24, 24),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(24, n_weaves),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
x_train, y_train = fabrics(2400)

for epoch in range(4):
    model.train()
    for ix in torch.randperm(len(x_train)).split(48):
        optimizer.zero_grad()
        loss = criterion(model(x_train[ix]), y_train[ix])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = fabrics(800)
    print(f"final_loss {criterion(model(x), y).item():.4f}")
