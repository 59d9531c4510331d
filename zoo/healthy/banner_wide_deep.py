"""Click-through of banners with a wide and a deep part, each with its own optimizer."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(501)

fields = {"site": 40, "banner": 60, "hour": 24, "device": 5}
sizes = list(fields.values())
N_CROSS = 1000

site_taste, banner_taste = torch.randn(40, 3), torch.randn(60, 3)
hour_effect, device_effect = torch.randn(24) * 0.4, torch.randn(5) * 0.5
pair_effect = torch.randn(40, 5) * 0.6


def impressions(n):
    cat = torch.stack([torch.randint(0, k, (n,)) for k in sizes], dim=1)
    dense = torch.randn(n, 3)
    s, b, h, d = cat.unbind(1)
    logit = -2.2 + (site_taste[s] * banner_taste[b]).sum(1) + hour_effect[h] + device_effect[d] + pair_effect[s, d]
    logit = logit + 0.8 * dense[:, 0] - 0.5 * dense[:, 1].abs()
    return cat, dense, torch.bernoulli(torch.sigmoid(logit))


class WideAndDeep(nn.Module):
    def __init__(self, emb_dim=8, hidden=(64, 32), dropout=0.1):
        super().__init__()
        self.wide = nn.EmbeddingBag(sum(sizes) + N_CROSS, 1, mode="sum")
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.zeros_(self.wide.weight)
        self.embeddings = nn.ModuleList(nn.Embedding(k, emb_dim) for k in sizes)
        for e in self.embeddings:
            nn.init.normal_(e.weight, std=0.1)
        layers, n_in = [], emb_dim * len(sizes) + 3
        for n_out in hidden:
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout)]
            n_in = n_out
        self.deep = nn.Sequential(*layers, nn.Linear(n_in, 1))
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("starts", starts)

    def forward(self, cat, dense):
        cross = (cat[:, 0] * 5 + cat[:, 3]) % N_CROSS + sum(sizes)
        wide_ids = torch.cat([cat + self.starts, cross.unsqueeze(1)], dim=1)
        wide = self.wide(wide_ids).squeeze(1)
        x = torch.cat([e(cat[:, i]) for i, e in enumerate(self.embeddings)] + [dense], dim=1)
        return wide + self.deep(x).squeeze(1) + self.bias

    def wide_parameters(self):
        return [self.wide.weight, self.bias]

    def deep_parameters(self):
        return [*self.embeddings.parameters(), *self.deep.parameters()]


model = WideAndDeep()
wide_opt = torch.optim.Adagrad(model.wide_parameters(), lr=0.05)
deep_opt = torch.optim.Adam(model.deep_parameters(), lr=3e-3)

model.train()
for step in range(600):
    cat, dense, click = impressions(512)
    loss = F.binary_cross_entropy_with_logits(model(cat, dense), click)
    wide_opt.zero_grad()
    deep_opt.zero_grad()
    loss.backward()
    wide_opt.step()
    deep_opt.step()
    if step % 100 == 0:
        print(f"{step:5d}  logloss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    cat, dense, click = impressions(20000)
    rate = click.mean()
    print(f"click rate {rate:.3f}, entropy {F.binary_cross_entropy(rate.expand_as(click), click):.4f}")
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(cat, dense), click).item():.4f}")
