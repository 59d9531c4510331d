"""Recognise five kinds of short signals with a stack of gated convolutions over time."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(403)

length, n_kinds = 24, 5
shapes = F.interpolate(torch.randn(n_kinds, 3, 9), size=length, mode="linear")


def signals(n):
    kind = torch.randint(0, n_kinds, (n,))
    shift = torch.randint(0, length, (n, 1))
    where = (torch.arange(length) + shift) % length
    clean = shapes[kind].gather(2, where[:, None, :].expand(n, 3, length))
    return clean + torch.randn(n, 3, length), kind


class GatedStack(nn.Module):
    def __init__(self, channels=16, depth=7):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(channels if i else 3, 2 * channels, 3, padding=1) for i in range(depth))
        self.head = nn.Linear(channels, n_kinds)
        nn.init.normal_(self.head.weight, std=0.05)
        for conv in self.convs:
            fan_in = conv.in_channels * conv.kernel_size[0]
            nn.init.normal_(conv.weight, std=(3 / fan_in) ** 0.5)
            nn.init.zeros_(conv.bias)

    def forward(self, x):
        for conv in self.convs:
            x = F.glu(conv(x), dim=1)
        return self.head(x.mean(2))


x_train, kind_train = signals(6000)
x_test, kind_test = signals(1500)
model = GatedStack()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for epoch in range(3):
    order = torch.randperm(len(x_train))
    for i, ix in enumerate(order.split(64)):
        loss = F.cross_entropy(model(x_train[ix]), kind_train[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 40 == 0:
            print(f"epoch {epoch}  batch {i:3d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), kind_test).item():.4f}")
