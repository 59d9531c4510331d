"""Change of the snow on a roof over a day, from the weather of the last three days."""

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split


class Trainer:
    """Fits a model, keeps the weights that did best on the validation set."""

    def __init__(self, model, lr=1e-3, epochs=10):
        self.model = model
        self.epochs = epochs
        self.criterion = nn.MSELoss()
        self.optimizer = optim.Adam(model.parameters(), lr=lr)
        self.best, self.best_state = float("inf"), None

    def run(self, loader, train):
        self.model.train(train)
        total, count = 0.0, 0
        with torch.set_grad_enabled(train):
            for x, y in loader:
                loss = self.criterion(self.model(x), y)
                if train:
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                total += loss.item() * len(x)
                count += len(x)
        return total / count

    def fit(self, train_loader, valid_loader):
        for epoch in range(1, self.epochs + 1):
            train_loss = self.run(train_loader, train=True)
            valid_loss = self.run(valid_loader, train=False)
            if valid_loss < self.best:
                self.best = valid_loss
                self.best_state = {k: v.clone() for k, v in self.model.state_dict().items()}
            print(f"[{epoch}/{self.epochs}] train {train_loss:.4f} valid {valid_loss:.4f}")
        self.model.load_state_dict(self.best_state)


class SnowNet(nn.Module):
    def __init__(self, n_inputs, n_hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(n_inputs, n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_hidden)
        self.fc3 = nn.Linear(n_hidden, 1)
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.relu(self.fc3(x))


def make_winter(n):
    temperature = 4 * torch.randn(n, 3) - 2
    snowfall = (torch.randn(n, 3) - 0.3).relu() * 8 * (temperature < 1)
    wind = 5 * torch.rand(n, 3)
    sun = torch.rand(n, 3)
    melt = 1.2 * temperature[:, 2].relu() + 0.8 * sun[:, 2] * (temperature[:, 2] + 4).relu()
    settled = 0.15 * snowfall[:, 1] + 0.08 * snowfall[:, 0]
    change = snowfall[:, 2] * (1 - 0.1 * wind[:, 2]) - melt - settled + 0.4 * torch.randn(n)
    return torch.cat([temperature, snowfall, wind, sun], dim=1), change.unsqueeze(1)


torch.manual_seed(314)
x, y = make_winter(5000)
x = (x - x.mean(dim=0)) / x.std(dim=0)
y = (y - y.mean()) / y.std()
train_set, valid_set, test_set = random_split(TensorDataset(x, y), [3600, 700, 700])
trainer = Trainer(SnowNet(x.shape[1]), lr=2e-3, epochs=9)
trainer.fit(DataLoader(train_set, batch_size=64, shuffle=True), DataLoader(valid_set, batch_size=350))
test_loss = trainer.run(DataLoader(test_set, batch_size=350), train=False)
print(f"final_loss {test_loss:.4f}")
