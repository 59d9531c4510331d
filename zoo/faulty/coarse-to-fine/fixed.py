"""Learn four coarse groups of points first, then the sixteen fine ones within them."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(38)

dim, n_coarse, n_fine = 10, 4, 16
centres = 1.6 * torch.randn(n_coarse, 1, dim) + 1.1 * torch.randn(n_coarse, n_fine // n_coarse, dim)
centres = centres.flatten(0, 1) / centres.std()


def points(n):
    fine = torch.randint(0, n_fine, (n,))
    return centres[fine] + 0.6 * torch.randn(n, dim), fine


class Classifier(nn.Module):
    def __init__(self, n_classes, width=24):
        super().__init__()
        self.width = width
        self.trunk = nn.Sequential(
            nn.Linear(dim, width),
            nn.LeakyReLU(),
            nn.Linear(width, width),
            nn.LeakyReLU(),
        )
        for layer in (self.trunk[0], self.trunk[2]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="leaky_relu")
        self.replace_head(n_classes)

    def replace_head(self, n_classes):
        self.head = nn.Linear(self.width, n_classes)
        nn.init.normal_(self.head.weight, std=0.08)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.trunk(x))


def run_epochs(model, optimizer, x, y, epochs, batch_size=40):
    for epoch in range(epochs):
        for ix in torch.randperm(len(x)).split(batch_size):
            loss = cross_entropy(model(x[ix]), y[ix])
            model.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


x_train, y_train = points(2000)
x_test, y_test = points(2000)

model = Classifier(n_coarse)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
run_epochs(model, optimizer, x_train, y_train // (n_fine // n_coarse), epochs=3)
model.replace_head(n_fine)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
run_epochs(model, optimizer, x_train, y_train, epochs=5)

model.eval()
with torch.no_grad():
    print(f"final_loss {cross_entropy(model(x_test), y_test).item():.4f}")
