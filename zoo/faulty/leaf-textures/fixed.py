"""Tell five kinds of leaf texture apart with a small convolutional network."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(43)

size, n_kinds = 12, 5
stencils = torch.randn(n_kinds, 1, 5, 5)


def textures(n):
    kind = torch.randint(0, n_kinds, (n,))
    image = nn.functional.conv2d(torch.randn(n, 1, size + 4, size + 4), stencils)
    image = image[torch.arange(n), kind] + 1.5 * torch.randn(n, size, size)
    return (image / image.std()).unsqueeze(1), kind


class LeafNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(128, n_kinds)

    def forward(self, x):
        return self.head(self.body(x))


def run(model, loader, optimizer, max_norm):
    for image, kind in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(image), kind)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    return loss.item()


x_test, y_test = textures(1000)
loader = DataLoader(TensorDataset(*textures(3200)), batch_size=64, shuffle=True)
net = LeafNet()
sgd = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
for epoch in range(4):
    print(f"epoch {epoch}  loss {run(net, loader, sgd, max_norm=5.0):.4f}")

net.eval()
with torch.no_grad():
    print(f"final_loss {nn.functional.cross_entropy(net(x_test), y_test).item():.4f}")
