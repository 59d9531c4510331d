"""Name the weave of small noisy tiles with a deep convolutional network."""

import math

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(402)

SIDE, WEAVES = 8, 6
grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()


def tiles(n):
    weave = torch.randint(0, WEAVES, (n,))
    angle = weave * (math.pi / WEAVES)
    wave = angle.cos()[:, None, None] * grid[0] + angle.sin()[:, None, None] * grid[1]
    phase = 2 * math.pi * torch.rand(n, 1, 1)
    image = torch.sin(1.6 * wave + phase) * 1.2 + 1.6 * torch.randn(n, SIDE, SIDE)
    return 0.55 * image[:, None], weave


def draw_weights(conv):
    fan_in = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
    bound = math.sqrt(6 / fan_in)
    nn.init.normal_(conv.weight, std=bound)
    nn.init.zeros_(conv.bias)


def build(depth=8, channels=12):
    layers = []
    for i in range(depth):
        conv = nn.Conv2d(channels if i else 1, channels, 3, padding=1, padding_mode="circular")
        draw_weights(conv)
        layers += [conv, nn.ReLU()]
    head = nn.Linear(channels * 4, WEAVES)
    nn.init.zeros_(head.weight)
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), head)


def evaluate(net, images, weaves):
    net.eval()
    with torch.no_grad():
        return F.cross_entropy(net(images), weaves).item()


net = build()
test_images, test_weaves = tiles(1000)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

for step in range(250):
    images, weaves = tiles(32)
    loss = F.cross_entropy(net(images), weaves)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

print(f"final_loss {evaluate(net, test_images, test_weaves):.4f}")
