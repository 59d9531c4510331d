"""REINFORCE: a policy learns to push a cart into the dock, many carts at a time."""

import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(211)

horizon, n_carts = 20, 48
force = torch.tensor([-0.2, 0.0, 0.2])

policy = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 3))
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)


def play(n, greedy=False):
    position = 2 * torch.rand(n) - 1
    speed = torch.zeros(n)
    log_probs, rewards = [], []
    for _ in range(horizon):
        logits = policy(torch.stack([position, 2 * speed], dim=1))
        choice = Categorical(logits=logits)
        action = logits.argmax(1) if greedy else choice.sample()
        log_probs.append(choice.log_prob(action))
        speed = 0.8 * speed + force[action]
        position = (position + 0.5 * speed).clamp(-2, 2)
        rewards.append(-position.abs())
    return torch.stack(log_probs), torch.stack(rewards)


for update in range(150):
    log_probs, rewards = play(n_carts)
    to_go = rewards.flip(0).cumsum(0).flip(0)
    advantage = to_go - to_go.mean(1, keepdim=True)
    advantage = advantage / (advantage.std() + 1e-6)
    objective = -(log_probs * advantage).mean()
    optimizer.zero_grad()
    objective.backward()
    optimizer.step()
    if update % 25 == 0:
        print(f"update {update:4d}  objective {objective.item():.4f}  cost {-rewards.mean().item():.4f}")

policy.eval()
with torch.no_grad():
    _, rewards = play(1000, greedy=True)
    print(f"final_loss {-rewards.mean().item():.4f}")
