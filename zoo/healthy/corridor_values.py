"""Deep Q-learning on a corridor with two exits; the bootstrap target is a slow copy of the network."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(212)

n_cells, gamma, tau = 12, 0.9, 0.02
prize = torch.zeros(n_cells)
prize[0], prize[-1] = 1.0, 3.0


def walk(cell, action):
    after = (cell + 2 * action - 1).clamp(0, n_cells - 1)
    done = (after == 0) | (after == n_cells - 1)
    return after, prize[after], done


def observe(cell):
    place = cell.float().unsqueeze(1) / (n_cells - 1) * 2 - 1
    return torch.cat([place, torch.sin(3 * place), torch.cos(3 * place), torch.sin(6 * place)], dim=1)


inside = torch.arange(1, n_cells - 1)
exact = torch.zeros(n_cells, 2)
for _ in range(60):
    for a in (0, 1):
        after, reward, done = walk(inside, torch.full_like(inside, a))
        exact[inside, a] = reward + gamma * ~done * exact[after].max(1).values

online = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)


def value_error():
    with torch.no_grad():
        return F.mse_loss(online(observe(inside)), exact[inside]).item()


for step in range(500):
    cell = torch.randint(1, n_cells - 1, (64,))
    action = torch.randint(0, 2, (64,))
    after, reward, done = walk(cell, action)
    with torch.no_grad():
        goal = reward + gamma * ~done * target(observe(after)).max(1).values
    chosen = online(observe(cell)).gather(1, action.unsqueeze(1)).squeeze(1)
    loss = F.smooth_l1_loss(chosen, goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast, tau)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  error of the values {value_error():.4f}")

online.eval()
print(f"final_loss {value_error():.4f}")
