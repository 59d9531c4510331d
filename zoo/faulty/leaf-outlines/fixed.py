"""Name the shape of a leaf from a 10x10 outline."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(46)

side = 10
row, col = torch.meshgrid(torch.arange(side) - 4.5, torch.arange(side) - 4.5, indexing="ij")
angle = torch.atan2(row, col)


def leaves(n):
    label = torch.randint(0, 4, (n,))
    lobes = label.view(-1, 1, 1) + 2
    turn = 6.3 * torch.rand(n, 1, 1)
    edge = 3.2 + torch.cos(lobes * (angle + turn))
    image = torch.exp(-(((row**2 + col**2).sqrt() - edge) ** 2)) + 0.4 * torch.randn(n, side, side)
    return ((image - 0.4) / 0.53).unsqueeze(1), label


class LeafNet(nn.Module):
    def __init__(self, widths=(12, 12, 16, 16, 24, 24)):
        super().__init__()
        sizes = (1, *widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(sizes, widths, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths)
        self.fc = nn.Linear(widths[-1] * 4, 4)

    def forward(self, x):
        for depth, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if depth in (1, 3):
                x = F.max_pool2d(x, 2)
        return self.fc(x.flatten(1))


def test_loss(model, x, y):
    model.eval()
    with torch.no_grad():
        loss = F.cross_entropy(model(x), y).item()
    model.train()
    return loss


x_train, y_train = leaves(4000)
x_test, y_test = leaves(1000)
model = LeafNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for step in range(240):
    ix = torch.randint(0, len(x_train), (32,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  test {test_loss(model, x_test, y_test):.4f}")

print(f"final_loss {test_loss(model, x_test, y_test):.4f}")
