"""Barley yield per field from a table of weather, soil and management. MLP with entity embeddings."""

import copy
import os
import random

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 2021
    n_rows = 4000
    num_cols = ("rain_mm", "temp_mean", "sowing_day", "nitrogen_kg", "ph", "slope")
    cat_cols = ("soil", "variety", "region")
    cat_sizes = (6, 14, 9)
    batch_size = 128
    epochs = 25
    lr = 2e-3
    weight_decay = 1e-5
    patience = 5


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ------------------------------------------------------------------ data
n = CFG.n_rows
df = {
    "rain_mm": np.random.gamma(9, 55, n),
    "temp_mean": np.random.normal(12.5, 1.8, n),
    "sowing_day": np.random.randint(60, 125, n).astype(float),
    "nitrogen_kg": np.random.uniform(0, 180, n),
    "ph": np.random.normal(6.4, 0.6, n),
    "slope": np.abs(np.random.normal(0, 4, n)),
}
cats = {c: np.random.randint(0, k, n) for c, k in zip(CFG.cat_cols, CFG.cat_sizes, strict=True)}
effects = {c: np.random.normal(0, s, k) for c, k, s in zip(CFG.cat_cols, CFG.cat_sizes, (450, 350, 300), strict=True)}
y = (
    4200
    - 0.006 * (df["rain_mm"] - 560) ** 2
    - 90 * (df["temp_mean"] - 12) ** 2
    - 12 * (df["sowing_day"] - 75).clip(0)
    + 1900 * (1 - np.exp(-df["nitrogen_kg"] / 60))
    - 400 * np.abs(df["ph"] - 6.5)
    - 20 * df["slope"]
    + sum(effects[c][cats[c]] for c in CFG.cat_cols)
    + np.random.normal(0, 250, n)
)

X_num = np.stack([df[c] for c in CFG.num_cols], axis=1)
X_cat = np.stack([cats[c] for c in CFG.cat_cols], axis=1)

perm = np.random.permutation(n)
trn_idx, val_idx, tst_idx = perm[:2800], perm[2800:3400], perm[3400:]
mu, sd = X_num[trn_idx].mean(0), X_num[trn_idx].std(0)
X_num = ((X_num - mu) / sd).astype(np.float32)
y_mu, y_sd = y[trn_idx].mean(), y[trn_idx].std()
target = ((y - y_mu) / y_sd).astype(np.float32)


class FieldDataset(Dataset):
    def __init__(self, idx):
        self.num, self.cat, self.y = X_num[idx], X_cat[idx], target[idx]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"num": torch.tensor(self.num[i]), "cat": torch.tensor(self.cat[i]), "y": torch.tensor(self.y[i])}


class TabularModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(k, min(50, (k + 1) // 2)) for k in CFG.cat_sizes])
        emb_dim = sum(e.embedding_dim for e in self.embs)
        self.bn_num = nn.BatchNorm1d(len(CFG.num_cols))
        self.emb_drop = nn.Dropout(0.05)
        self.mlp = nn.Sequential(
            nn.Linear(emb_dim + len(CFG.num_cols), 96),
            nn.ReLU(),
            nn.BatchNorm1d(96),
            nn.Dropout(0.1),
            nn.Linear(96, 48),
            nn.ReLU(),
            nn.BatchNorm1d(48),
            nn.Dropout(0.1),
            nn.Linear(48, 1),
        )

    def forward(self, num, cat):
        x = torch.cat([e(cat[:, i]) for i, e in enumerate(self.embs)], dim=1)
        x = torch.cat([self.emb_drop(x), self.bn_num(num)], dim=1)
        return self.mlp(x).squeeze(-1)


def train_fn(model, loader, optimizer, loss_fn):
    model.train()
    total = 0
    for data in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(data["num"], data["cat"]), data["y"])
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def valid_fn(model, loader):
    model.eval()
    preds, ys = [], []
    for data in loader:
        with torch.no_grad():
            preds.append(model(data["num"], data["cat"]).numpy())
        ys.append(data["y"].numpy())
    preds, ys = np.concatenate(preds), np.concatenate(ys)
    return float(((preds - ys) ** 2).mean())


trn_loader = DataLoader(FieldDataset(trn_idx), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
val_loader = DataLoader(FieldDataset(val_idx), batch_size=256)
tst_loader = DataLoader(FieldDataset(tst_idx), batch_size=256)

model = TabularModel()
optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
loss_fn = nn.MSELoss()

best_loss, best_state, bad_epochs = np.inf, None, 0
for epoch in range(CFG.epochs):
    train_loss = train_fn(model, trn_loader, optimizer, loss_fn)
    valid_loss = valid_fn(model, val_loader)
    scheduler.step(valid_loss)
    print(f"EPOCH {epoch}  train {train_loss:.4f}  valid {valid_loss:.4f}  rmse {valid_loss**0.5 * y_sd:.0f} kg/ha")
    if valid_loss < best_loss:
        best_loss, best_state, bad_epochs = valid_loss, copy.deepcopy(model.state_dict()), 0
    else:
        bad_epochs += 1
        if bad_epochs >= CFG.patience:
            print("early stop")
            break

model.load_state_dict(best_state)
print(f"final_loss {valid_fn(model, tst_loader):.4f}")
