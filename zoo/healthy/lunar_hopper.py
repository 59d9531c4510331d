"""REINFORCE with returns normalised in the batch: land a hopper softly (1-D, three thrust levels)."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical

torch.manual_seed(543)

gamma = 0.99
horizon = 30
episodes_per_update = 16
updates = 200


class Hopper:
    """Height and speed; gravity pulls, thrust in {0, 1, 2} pushes.  Runs n landers side by side."""

    def reset(self, n):
        self.h = 1.5 + torch.rand(n)
        self.v = 0.4 * torch.randn(n)
        self.done = torch.zeros(n, dtype=torch.bool)
        return self.obs()

    def obs(self):
        return torch.stack([self.h, self.v, self.h * self.v], dim=1)

    def step(self, action):
        alive = ~self.done
        self.v = torch.where(alive, self.v + 0.1 * (action.float() * 1.2 - 1.0), self.v)
        self.h = torch.where(alive, self.h + 0.1 * self.v * 2, self.h)
        landed = alive & (self.h <= 0)
        reward = alive.float() * (-0.03 - 0.02 * action.float() - 0.1 * (self.h - 0.0).clamp(min=0) / 2)
        reward = reward + landed.float() * (2.0 - 3.0 * self.v.abs())
        self.done = self.done | landed
        return self.obs(), reward, alive


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(3, 128)
        self.dropout = nn.Dropout(p=0.1)
        self.affine2 = nn.Linear(128, 3)

    def forward(self, x):
        x = F.relu(self.dropout(self.affine1(x)))
        return F.softmax(self.affine2(x), dim=-1)


policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
env = Hopper()


def rollout(n):
    state = env.reset(n)
    log_probs, rewards, masks, entropies = [], [], [], []
    for _ in range(horizon):
        m = Categorical(policy(state))
        action = m.sample()
        state, reward, alive = env.step(action)
        log_probs.append(m.log_prob(action))
        entropies.append(m.entropy())
        rewards.append(reward)
        masks.append(alive.float())
        if env.done.all():
            break
    return torch.stack(log_probs), torch.stack(rewards), torch.stack(masks), torch.stack(entropies)


def finish_update():
    log_probs, rewards, masks, entropies = rollout(episodes_per_update)
    returns, R = torch.zeros_like(rewards), 0
    for t in reversed(range(len(rewards))):
        R = rewards[t] + gamma * R
        returns[t] = R
    valid = masks.bool()
    advantage = (returns - returns[valid].mean()) / (returns[valid].std() + 1e-8)
    loss = -(log_probs * advantage * masks).sum() / masks.sum() - 0.01 * (entropies * masks).sum() / masks.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return rewards.sum(0).mean().item()


def evaluate(n=300):
    policy.eval()
    with torch.no_grad():
        state, total = env.reset(n), torch.zeros(n)
        for _ in range(horizon):
            state, reward, _ = env.step(policy(state).argmax(-1))
            total += reward
    policy.train()
    return total.mean().item()


print(f"greedy return before training {evaluate():.3f}")
running = None
for i in range(updates):
    ep = finish_update()
    running = ep if running is None else 0.05 * ep + 0.95 * running
    if i % 20 == 0:
        print(f"Update {i}\tLast reward: {ep:.2f}\tAverage reward: {running:.2f}")

score = evaluate()
print(f"greedy return {score:.3f}")
print(f"final_loss {2.0 - score:.4f}")
