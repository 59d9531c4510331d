"""Churn prediction, plain MLP; positives are rare, so they get a weight."""

import random

import numpy as np
import torch
import torch.nn as nn


def seed_everything(seed=1234):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything()
config = {"hidden": 64, "dropout": 0.2, "lr": 1e-3, "batch_size": 128, "num_epochs": 12, "l2": 1e-4}


def load_customers(n=8000):
    tenure = np.random.exponential(24, n)
    monthly = np.random.gamma(6, 10, n)
    calls = np.random.poisson(1.5, n)
    contract = np.random.choice(3, n, p=[0.5, 0.3, 0.2])
    fibre = np.random.rand(n) < 0.4
    paperless = np.random.rand(n) < 0.6
    z = (
        -3.2
        + 0.7 * calls
        - 0.05 * tenure
        + 0.02 * (monthly - 60) * (contract == 0)
        - 1.4 * (contract == 2)
        + 1.1 * fibre
    )
    churn = np.random.rand(n) < 1 / (1 + np.exp(-1.4 * z))
    onehot = np.eye(3)[contract]
    x = np.column_stack([tenure, monthly, calls, tenure * monthly, onehot, fibre, paperless])
    return x.astype(np.float32), churn.astype(np.float32)


X, y = load_customers()
n_train = 6400
mu, sigma = X[:n_train].mean(axis=0), X[:n_train].std(axis=0)
X = (X - mu) / sigma
X_train, y_train = torch.tensor(X[:n_train]), torch.tensor(y[:n_train])
X_test, y_test = torch.tensor(X[n_train:]), torch.tensor(y[n_train:])
print("churn rate:", y.mean())


class ChurnNet(nn.Module):
    def __init__(self, in_dim, hidden, dropout):
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = self.drop(torch.relu(self.fc1(x)))
        x = self.drop(torch.relu(self.fc2(x)))
        return self.out(x).squeeze(-1)


model = ChurnNet(X.shape[1], config["hidden"], config["dropout"])
pos_weight = (y_train == 0).sum() / (y_train == 1).sum()
criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=config["l2"])
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)


def auc(score, label):
    order = score.argsort()
    rank = torch.empty(len(score))
    rank[order] = torch.arange(1, len(score) + 1, dtype=torch.float)
    pos = label.sum()
    return ((rank[label == 1].sum() - pos * (pos + 1) / 2) / (pos * (len(label) - pos))).item()


for epoch in range(config["num_epochs"]):
    model.train()
    epoch_loss = 0
    for idx in torch.randperm(n_train).split(config["batch_size"]):
        optimizer.zero_grad()
        loss = criterion(model(X_train[idx]), y_train[idx])
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(idx) / n_train
    model.eval()
    with torch.no_grad():
        logits = model(X_test)
        test_loss = criterion(logits, y_test).item()
    scheduler.step(test_loss)
    print(f"{epoch + 1:2d}  train {epoch_loss:.4f}  test {test_loss:.4f}  auc {auc(logits, y_test):.4f}")

trivial = criterion(torch.zeros_like(y_test), y_test).item()
print(f"trivial {trivial:.4f}")
print(f"final_loss {test_loss:.4f}")
