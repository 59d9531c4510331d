"""Read noisy pictures of ten symbols, each drawn at any of nine places."""

import torch
from torch import nn

torch.manual_seed(0)
symbols = (torch.rand(10, 8, 8) < 0.4).float()


def pictures(n):
    images, labels = 0.4 * torch.randn(n, 10, 10), torch.randint(10, (n,))
    for image, label, (y, x) in zip(images, labels, torch.randint(3, (n, 2)), strict=True):
        image[y : y + 8, x : x + 8] += symbols[label]
    return images, labels


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh())
        self.output = nn.Linear(100, 10)
        for layer in self.hidden[1::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="tanh")

    def forward(self, images):
        return self.output(self.hidden(images))


def build():
    return Reader(), pictures(64), nn.CrossEntropyLoss()


if __name__ == "__main__":
    model, loss_fn = Reader(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = pictures(4000)
    for step in range(1000):
        batch = torch.randint(4000, (64,))
        loss = loss_fn(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    images, labels = pictures(1000)
    print(f"right: {(model(images).argmax(dim=1) == labels).float().mean().item():.0%} of 1,000 new pictures")
