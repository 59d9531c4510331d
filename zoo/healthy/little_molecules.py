"""Message passing on small random molecules: predict a property that depends on bonds and neighbours."""

import random

import torch
from torch import Tensor, nn

random.seed(8)
torch.manual_seed(8)

ELEMENTS = 5
CHARGE = torch.tensor([0.2, -0.8, 0.5, 1.1, -0.3])
BOND = torch.tensor([0.5, 1.0, 1.7])


def molecule():
    """A random tree with a ring closed now and then. Returns (atoms, edges both ways, bond types, target)."""
    n = random.randint(5, 14)
    atoms = torch.randint(0, ELEMENTS, (n,))
    bonds = [(i, random.randrange(max(0, i - 3), i), random.choice((0, 0, 1, 2))) for i in range(1, n)]
    if random.random() < 0.5:
        bonds.append((0, n - 1, 0))
    src, dst, kind = (torch.tensor(c) for c in zip(*bonds, strict=True))
    polarity = (BOND[kind] * (CHARGE[atoms[src]] - CHARGE[atoms[dst]]).abs()).sum()
    target = 0.4 * polarity + 0.5 * CHARGE[atoms].sum() - 0.1 * n
    return atoms, torch.stack([torch.cat([src, dst]), torch.cat([dst, src])]), kind.repeat(2), target


class Batch:
    def __init__(self, graphs):
        atoms, edges, kinds, targets = zip(*graphs, strict=True)
        sizes = torch.tensor([len(a) for a in atoms])
        offsets = sizes.cumsum(0) - sizes
        self.x = torch.cat(atoms)
        self.edge_index = torch.cat([e + o for e, o in zip(edges, offsets, strict=True)], dim=1)
        self.edge_attr = torch.cat(kinds)
        self.batch = torch.repeat_interleave(torch.arange(len(graphs)), sizes)
        self.y = torch.stack(targets)
        self.num_graphs = len(graphs)


class GINEConv(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.edge_emb = nn.Embedding(3, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.BatchNorm1d(2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        src, dst = edge_index
        message = torch.relu(x[src] + self.edge_emb(edge_attr))
        aggr = torch.zeros_like(x).index_add_(0, dst, message)
        return self.mlp((1 + self.eps) * x + aggr)


class GIN(nn.Module):
    def __init__(self, dim: int = 32, layers: int = 3):
        super().__init__()
        self.atom_emb = nn.Embedding(ELEMENTS, dim)
        self.convs = nn.ModuleList([GINEConv(dim) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(dim) for _ in range(layers)])
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, data: Batch) -> Tensor:
        h = self.atom_emb(data.x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = h + torch.relu(norm(conv(h, data.edge_index, data.edge_attr)))
        pooled = torch.zeros(data.num_graphs, h.size(1)).index_add_(0, data.batch, h)
        return self.readout(pooled).squeeze(1)


train_set = [molecule() for _ in range(2400)]
test = Batch([molecule() for _ in range(400)])
mean = torch.stack([g[3] for g in train_set]).mean()
std = torch.stack([g[3] for g in train_set]).std()

model = GIN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)

for epoch in range(1, 9):
    model.train()
    random.shuffle(train_set)
    loss_all = 0.0
    for start in range(0, len(train_set), 48):
        data = Batch(train_set[start : start + 48])
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(model(data), (data.y - mean) / std)
        loss.backward()
        optimizer.step()
        loss_all += loss.item() * data.num_graphs
    scheduler.step()
    print(f"Epoch: {epoch:03d}, Loss: {loss_all / len(train_set):.5f}, lr {scheduler.get_last_lr()[0]:.5f}")

model.eval()
with torch.no_grad():
    y = (test.y - mean) / std
    print(f"mean predictor {y.abs().mean().item():.4f}")
    print(f"final_loss {nn.functional.l1_loss(model(test), y).item():.4f}")
