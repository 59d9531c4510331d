"""Recognise which of eight arrangements of tiles a 16x16 picture shows."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(35)

n_scenes, side = 8, 16
layouts = (torch.rand(n_scenes, 1, 4, 4) < 0.5).float()


def scenes(n):
    label = torch.randint(0, n_scenes, (n,))
    tiles = layouts[label]
    tiles = torch.where(torch.rand_like(tiles) < 0.12, 1 - tiles, tiles)
    picture = F.interpolate(tiles, size=(side, side))
    picture = picture * (0.6 + 0.8 * torch.rand(n, 1, 1, 1)) + 0.7 * torch.randn(n, 1, side, side)
    return (picture - 0.5) / 0.85, label


class SceneNet(nn.Module):
    def __init__(self, width=24, n_mixed=48):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(width)
        self.mix = nn.Linear(width * 16, n_mixed, bias=False)
        self.mix_norm = nn.BatchNorm1d(n_mixed)
        self.head = nn.Linear(n_mixed, n_scenes)
        nn.init.kaiming_normal_(self.mix.weight)

    def forward(self, picture):
        x = F.relu(self.stem_norm(self.stem(picture)))
        x = F.relu(self.conv_norm(self.conv(x)))
        x = F.relu(self.mix_norm(self.mix(x.flatten(1))))
        return self.head(x)


def main():
    model = SceneNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(300):
        picture, label = scenes(64)
        loss = F.cross_entropy(model(picture), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        picture, label = scenes(2000)
        print(f"final_loss {F.cross_entropy(model(picture), label).item():.4f}")


main()
