"""Recognise ten random glyphs on 10x10 images."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(90)

n_classes, side = 10, 10
glyphs = torch.randn(n_classes, side, side)


def images(n):
    label = torch.randint(0, n_classes, (n,))
    return ((glyphs[label] + 1.6 * torch.randn(n, side, side)) / 1.9).unsqueeze(1), label


def init_weights(module):
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 16, 3, stride=2)
        self.norm = nn.GroupNorm(4, 16)
        self.head = nn.Linear(16 * 16, n_classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm(self.down(x)))
        return self.head(x.flatten(1))


class Trainer:
    def __init__(self, model, lr):
        self.model = model.apply(init_weights)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)

    def epoch(self, loader):
        self.model.train()
        for x, y in loader:
            loss = self.criterion(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        return nn.functional.cross_entropy(self.model(x), y).item()


loader = DataLoader(TensorDataset(*images(4000)), batch_size=64, shuffle=True)
trainer = Trainer(Classifier(), lr=0.005)
for number in range(4):
    print(f"epoch {number}  loss {trainer.epoch(loader):.4f}")
print(f"final_loss {trainer.evaluate(*images(1500)):.4f}")
