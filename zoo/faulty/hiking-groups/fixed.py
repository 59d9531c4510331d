"""How long a group of hikers needs for a trail, from what is known of those who answered."""

import torch
from torch import nn

torch.manual_seed(23)
MAX_MEMBERS = 6


def make_groups(n):
    """Groups of up to six: age, fitness and load of every member who answered, and the trail they take."""
    members = torch.randn(n, MAX_MEMBERS, 3)
    mask = torch.rand(n, MAX_MEMBERS) < (0.35 + 0.6 * torch.rand(n, 1))
    trail = torch.randn(n, 2)
    pace = 0.5 * members[..., 0] - members[..., 1] + 0.6 * members[..., 2].relu() * members[..., 0].abs()
    answered = mask.float()
    typical = (pace * answered).sum(1) / (answered.sum(1) + 0.5)
    hours = trail[:, 0] + 1.2 * typical + 0.5 * trail[:, 1] * typical + 0.2 * torch.randn(n)
    return members * answered[..., None], answered, trail, hours


class TrailTime(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.member = nn.Sequential(nn.Linear(3, d), nn.GELU(), nn.Linear(d, d), nn.GELU())
        self.trail = nn.Linear(2, d)
        self.head = nn.Sequential(nn.Linear(2 * d, d), nn.GELU(), nn.Linear(d, 1))

    def forward(self, members, mask, trail):
        h = self.member(members) * mask.unsqueeze(-1)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        group = h.sum(dim=1) / count
        return self.head(torch.cat([group, self.trail(trail)], dim=1)).squeeze(1)


members, mask, trail, hours = make_groups(6000)
hours = (hours - hours.mean()) / hours.std()
train, test = torch.arange(5000), torch.arange(5000, 6000)

model = TrailTime()
loss_fn = nn.MSELoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for step in range(1, 401):
    i = train[torch.randint(len(train), (32,))]
    loss = loss_fn(model(members[i], mask[i], trail[i]), hours[i])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"{step:4d}  {loss.item():.4f}")

model.eval()
with torch.no_grad():
    test_loss = loss_fn(model(members[test], mask[test], trail[test]), hours[test])
print(f"final_loss {test_loss.item():.4f}")
