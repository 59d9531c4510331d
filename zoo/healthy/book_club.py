"""Neural collaborative filtering (GMF + MLP) on implicit feedback of a book club."""

import numpy as np
import torch
import torch.nn as nn

np.random.seed(11)
torch.manual_seed(11)

n_users, n_items, k = 400, 300, 6
taste = np.random.randn(n_users, k) / np.sqrt(k)
style = np.random.randn(n_items, k)
popularity = 0.5 * np.random.randn(n_items)
score = 2.5 * taste @ style.T + popularity - 1.8
read = np.random.rand(n_users, n_items) < 1 / (1 + np.exp(-1.8 * score))

users, items = np.nonzero(read)
shuffled = np.random.permutation(len(users))
cut = int(0.85 * len(users))
train_pos, test_pos = shuffled[:cut], shuffled[cut:]
print(f"{len(users)} readings")


class NeuMF(nn.Module):
    def __init__(self, num_users, num_items, factor_num=16, num_layers=2, dropout=0.1):
        super().__init__()
        self.embed_user_GMF = nn.Embedding(num_users, factor_num)
        self.embed_item_GMF = nn.Embedding(num_items, factor_num)
        width = factor_num * (2 ** (num_layers - 1))
        self.embed_user_MLP = nn.Embedding(num_users, width)
        self.embed_item_MLP = nn.Embedding(num_items, width)
        modules = []
        for i in range(num_layers):
            size = factor_num * (2 ** (num_layers - i))
            modules += [nn.Dropout(dropout), nn.Linear(size, size // 2), nn.ReLU()]
        self.MLP_layers = nn.Sequential(*modules)
        self.predict_layer = nn.Linear(factor_num * 2, 1)
        self._init_weight_()

    def _init_weight_(self):
        for m in self.modules():
            if isinstance(m, nn.Embedding):
                nn.init.normal_(m.weight, std=0.01)
        for m in self.MLP_layers:
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
        nn.init.kaiming_uniform_(self.predict_layer.weight, a=1, nonlinearity="sigmoid")

    def forward(self, user, item):
        gmf = self.embed_user_GMF(user) * self.embed_item_GMF(item)
        mlp = self.MLP_layers(torch.cat((self.embed_user_MLP(user), self.embed_item_MLP(item)), -1))
        return self.predict_layer(torch.cat((gmf, mlp), -1)).view(-1)


def with_negatives(pos, num_ng=2):
    """Each reading with `num_ng` books the reader has not read."""
    u, i = users[pos], items[pos]
    neg_u = np.repeat(u, num_ng)
    neg_i = np.random.randint(n_items, size=len(neg_u))
    keep = ~read[neg_u, neg_i]
    neg_u, neg_i = neg_u[keep], neg_i[keep]
    label = np.r_[np.ones(len(u)), np.zeros(len(neg_u))].astype(np.float32)
    return torch.tensor(np.r_[u, neg_u]), torch.tensor(np.r_[i, neg_i]), torch.tensor(label)


model = NeuMF(n_users, n_items)
loss_function = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(8):
    model.train()
    u, i, y = with_negatives(train_pos)
    total, count = 0.0, 0
    for idx in torch.randperm(len(u)).split(1024):
        model.zero_grad()
        loss = loss_function(model(u[idx], i[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total, count = total + loss.item(), count + 1
    print(f"epoch {epoch:2d}: {count} batches, loss {total / count:.4f}")

model.eval()
with torch.no_grad():
    u, i, y = with_negatives(test_pos)
    p = y.mean()
    print(f"entropy {-(p * p.log() + (1 - p) * (1 - p).log()).item():.4f}")
    print(f"final_loss {loss_function(model(u, i), y).item():.4f}")
