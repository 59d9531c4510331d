"""Tell which of three communities each member of a small network belongs to."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(401)

n_members, n_groups, n_traits = 20, 3, 6
profiles = torch.randn(n_groups, n_traits)


def networks(n):
    group = torch.randint(0, n_groups, (n, n_members))
    same = group[:, :, None] == group[:, None, :]
    linked = torch.rand(n, n_members, n_members) < torch.where(same, 0.6, 0.15)
    linked = torch.triu(linked, diagonal=1).float()
    traits = 0.6 * profiles[group] + torch.randn(n, n_members, n_traits)
    return traits, linked + linked.transpose(1, 2), group


class Convolution(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.mix = nn.Linear(2 * n_in, n_out)
        nn.init.kaiming_normal_(self.mix.weight, a=0.1)
        nn.init.zeros_(self.mix.bias)

    def forward(self, h, linked):
        neighbours = linked @ h / linked.sum(2, keepdim=True).clamp(min=1)
        return F.leaky_relu(self.mix(torch.cat([h, neighbours], dim=2)), 0.1)


class GraphNetwork(nn.Module):
    def __init__(self, width=48, depth=4):
        super().__init__()
        self.layers = nn.ModuleList(Convolution(width if i else n_traits, width) for i in range(depth))
        self.head = nn.Linear(width, n_groups)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, traits, linked):
        h = traits
        for layer in self.layers:
            h = layer(h, linked)
        return self.head(h)


traits_test, linked_test, group_test = networks(500)
model = GraphNetwork()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(300):
    traits, linked, group = networks(16)
    logits = model(traits, linked)
    loss = F.cross_entropy(logits.flatten(0, 1), group.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    logits = model(traits_test, linked_test)
    print(f"final_loss {F.cross_entropy(logits.flatten(0, 1), group_test.flatten()).item():.4f}")
