"""Follow a stream of symbols and tell after each one which of four rooms the walker is in."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(67)

n_rooms, n_moves, length = 4, 3, 8
door = torch.stack([torch.randperm(n_rooms) for _ in range(n_moves)])


def walks(n):
    move = torch.randint(0, n_moves, (n, length))
    room = torch.zeros(n, dtype=torch.long)
    visited = []
    for t in range(length):
        room = door[move[:, t], room]
        visited.append(room)
    return move, torch.stack(visited, dim=1)


class Walker(nn.Module):
    def __init__(self, n_hidden=48):
        super().__init__()
        self.embed = nn.Embedding(n_moves, n_hidden)
        self.carry = nn.Linear(n_hidden, n_hidden)
        self.head = nn.Linear(n_hidden, n_rooms)

    def forward(self, move):
        h = torch.zeros(len(move), self.carry.in_features)
        states = []
        for x in self.embed(move).unbind(1):
            h = torch.softmax(x + self.carry(h), dim=1)
            states.append(h)
        return self.head(torch.stack(states, dim=1))


walker = Walker()
optimizer = torch.optim.AdamW(walker.parameters(), lr=3e-3, weight_decay=0.01)

for step in range(400):
    move, room = walks(64)
    loss = F.cross_entropy(walker(move).flatten(0, 1), room.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

walker.eval()
with torch.no_grad():
    move, room = walks(2000)
    print(f"final_loss {F.cross_entropy(walker(move).flatten(0, 1), room.flatten()).item():.4f}")
