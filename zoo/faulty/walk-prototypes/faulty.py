"""Recognise the habit behind a walk by its distance to learned prototypes."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(412)

n_steps, n_habits = 16, 5
habits = 0.7 * torch.randn(n_habits, 2, 2)


def walks(n):
    habit = torch.randint(0, n_habits, (n,))
    move, moves = torch.randn(n, 2), []
    for _ in range(n_steps):
        move = torch.einsum("nij,nj->ni", habits[habit], move).tanh() + 0.6 * torch.randn(n, 2)
        moves.append(move)
    return torch.stack(moves, dim=1), habit


class PrototypeNetwork(nn.Module):
    def __init__(self, width=32, n_prototypes=20):
        super().__init__()
        self.encoder = nn.GRU(2, width, batch_first=True)
        self.prototypes = nn.Parameter(0.3 * torch.randn(n_prototypes, width))
        self.head = nn.Linear(n_prototypes, n_habits)

    def forward(self, moves):
        _, last = self.encoder(moves)
        distance = torch.cdist(last[0], self.prototypes)
        similarity = F.relu(-distance)
        return self.head(similarity)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def step(self, moves, habit):
        loss = F.cross_entropy(self.model(moves), habit)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def test(self, moves, habit):
        self.model.eval()
        return F.cross_entropy(self.model(moves), habit).item()


trainer = Trainer(PrototypeNetwork())
for step in range(300):
    loss = trainer.step(*walks(64))
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss:.4f}")
print(f"final_loss {trainer.test(*walks(2000)):.4f}")
