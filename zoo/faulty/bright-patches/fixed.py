"""Classify bright 8x8 patches with convolutions whose scale is set from a first batch."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(410)

side, n_kinds = 8, 8
prototypes = torch.rand(n_kinds, 1, side, side)


def patches(n):
    kind = torch.randint(0, n_kinds, (n,))
    shift = torch.randint(0, 3, (n,))
    image = torch.stack([prototypes[k].roll(int(s), dims=2) for k, s in zip(kind, shift, strict=True)])
    return 0.9 + 0.6 * image + 0.27 * torch.randn(n, 1, side, side), kind


class PatchNet(nn.Module):
    def __init__(self, channels=(12, 16, 16)):
        super().__init__()
        widths = (1, *channels)
        self.convs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3) for i in range(len(channels)))
        self.head = nn.Linear(channels[-1] * 4, n_kinds)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.head(x.flatten(1))

    @torch.no_grad()
    def calibrate(self, x):
        for conv in self.convs:
            conv.bias.zero_()
            response = conv(x)
            mean, std = response.mean((0, 2, 3)), response.std((0, 2, 3))
            conv.weight /= std[:, None, None, None]
            conv.bias.copy_(-mean / std)
            x = F.relu(conv(x))


x_train, kind_train = patches(4000)
x_test, kind_test = patches(1000)
model = PatchNet()
model.calibrate(x_train[:256])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(400):
    ix = torch.randint(0, len(x_train), (32,))
    loss = F.cross_entropy(model(x_train[ix]), kind_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), kind_test).item():.4f}")
