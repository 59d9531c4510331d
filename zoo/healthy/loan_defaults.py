"""Loan default kernel: categorical embeddings + numeric columns -> probability of default."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

SEED = 42
np.random.seed(SEED)
torch.manual_seed(SEED)

N = 12000
CATS = {"purpose": 9, "state": 30, "grade": 7, "ownership": 4}

# ---------------------------------------------------------------- data
cat = np.stack([np.random.randint(0, k, N) for k in CATS.values()], axis=1)
income = np.exp(np.random.normal(10.6, 0.5, N))
amount = np.exp(np.random.normal(9.3, 0.6, N))
age = np.random.randint(20, 75, N).astype(float)
utilisation = np.random.beta(2, 3, N)
num = np.stack([income, amount, age, utilisation, amount / income], axis=1)

effects = [np.random.normal(0, s, k) for s, k in zip((0.5, 0.3, 0.0, 0.4), CATS.values(), strict=True)]
effects[2] = np.linspace(-1.5, 1.5, 7)
logit = sum(e[cat[:, j]] for j, e in enumerate(effects))
logit = logit + 3.0 * (amount / income - 0.3) + 2.0 * (utilisation - 0.4) * (cat[:, 2] > 3) - 0.02 * (age - 45) - 1.2
target = (np.random.rand(N) < 1 / (1 + np.exp(-1.5 * logit))).astype(np.float32)

perm = np.random.permutation(N)
tr, va = perm[: int(0.8 * N)], perm[int(0.8 * N) :]
mean, std = num[tr].mean(0), num[tr].std(0)
num = (num - mean) / std


class LoanDataset(Dataset):
    def __init__(self, idx):
        self.cat = torch.tensor(cat[idx], dtype=torch.long)
        self.num = torch.tensor(num[idx], dtype=torch.float32)
        self.y = torch.tensor(target[idx]).unsqueeze(1)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.cat[i], self.num[i], self.y[i]


class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_num, hidden=(128, 64), p=0.3):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(c, min(50, (c + 1) // 2)) for c in cardinalities])
        n_emb = sum(e.embedding_dim for e in self.embeds)
        self.emb_drop = nn.Dropout(0.1)
        self.bn_num = nn.BatchNorm1d(n_num)
        layers, prev = [], n_emb + n_num
        for h in hidden:
            layers += [nn.Linear(prev, h), nn.ReLU(), nn.BatchNorm1d(h), nn.Dropout(p)]
            prev = h
        layers.append(nn.Linear(prev, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_cat, x_num):
        x = torch.cat([e(x_cat[:, i]) for i, e in enumerate(self.embeds)], dim=1)
        x = self.emb_drop(x)
        return self.layers(torch.cat([x, self.bn_num(x_num)], dim=1))


train_dl = DataLoader(LoanDataset(tr), batch_size=128, shuffle=True, drop_last=True)
valid_dl = DataLoader(LoanDataset(va), batch_size=512)

model = TabularModel(CATS.values(), num.shape[1])
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
EPOCHS = 7
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=3e-3, epochs=EPOCHS, steps_per_epoch=len(train_dl), pct_start=0.3
)

for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for xc, xn, y in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(xc, xn), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(y)

    model.eval()
    val, hits = 0.0, 0
    with torch.no_grad():
        for xc, xn, y in valid_dl:
            out = model(xc, xn)
            val += criterion(out, y).item() * len(y)
            hits += ((out > 0).float() == y).sum().item()
    print(f"Epoch {epoch + 1}: train {total / len(tr):.4f}  valid {val / len(va):.4f}  acc {hits / len(va):.4f}")

base = target[va].mean()
print(f"entropy of the target {-(base * np.log(base) + (1 - base) * np.log(1 - base)):.4f}")
print(f"final_loss {val / len(va):.4f}")
