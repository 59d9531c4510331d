"""Sort patients into two groups from twenty noisy measurements of few of them."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(45)


def patients(n):
    x = torch.randn(n, 20)
    risk = x[:, 0] + x[:, 1] - x[:, 2] + 0.5 * x[:, 3] + 1.2 * torch.randn(n)
    return x, (risk > 0).float()


class Trainer:
    def __init__(self, model, train, test, lr):
        self.model, self.train, self.test = model, train, test
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def loss(self, x, y):
        return F.binary_cross_entropy_with_logits(self.model(x).squeeze(1), y)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        losses = [self.loss(x, y).item() for x, y in self.test]
        return sum(losses) / len(losses)

    def fit(self, epochs):
        self.model.train()
        for epoch in range(epochs):
            for x, y in self.train:
                loss = self.loss(x, y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            if epoch % 10 == 0:
                print(f"epoch {epoch:3d}  loss {loss.item():.4f}  test {self.evaluate():.4f}")


network = nn.Sequential(
    nn.Linear(20, 128),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(128, 1),
)
trainer = Trainer(
    network,
    train=DataLoader(TensorDataset(*patients(240)), batch_size=24, shuffle=True),
    test=DataLoader(TensorDataset(*patients(2000)), batch_size=500),
    lr=1e-3,
)
trainer.fit(epochs=41)
print(f"final_loss {trainer.evaluate():.4f}")
