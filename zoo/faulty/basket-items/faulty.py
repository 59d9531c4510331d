"""Predict the next item in a shop from a visitor's profile."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(23)

n_items, n_profile = 256, 12
popularity = 0.28 * torch.randn(n_items)
habits, taste = torch.randn(n_profile, 3) / n_profile**0.5, 0.2 * torch.randn(3, n_items)


def visits(n):
    profile = torch.randn(n, n_profile)
    log_p = F.log_softmax(popularity + torch.tanh(profile @ habits) @ taste, dim=1)
    return profile, log_p.exp().multinomial(1).squeeze(1), log_p


class Recommender(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_profile, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.head = nn.Linear(width, n_items)
        for layer in (self.body[0], self.body[2]):
            nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
        nn.init.normal_(self.head.weight, std=0.24)
        nn.init.zeros_(self.head.bias)

    def forward(self, profile):
        return self.head(self.body(profile))


model = Recommender()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

for step in range(600):
    profile, item, _ = visits(192)
    loss = F.cross_entropy(model(profile), item)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

# nats above the entropy of the visitors' own choices
model.eval()
with torch.no_grad():
    profile, _, log_p = visits(2000)
    excess = F.kl_div(model(profile).log_softmax(1), log_p, reduction="batchmean", log_target=True)
print(f"final_loss {excess.item():.4f}")
