"""Deep Q-learning: keep poles upright on carts, with a replay memory and a target network."""

import copy
import math
import random
from collections import namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(3)
torch.manual_seed(3)

Transition = namedtuple("Transition", ("state", "action", "reward", "next_state", "alive"))


class Carts:
    """Several cart-poles at once; a fallen one starts anew."""

    def __init__(self, n, limit=200):
        self.n, self.limit = n, limit
        self.state = self.fresh(n)
        self.age = torch.zeros(n, dtype=torch.long)

    @staticmethod
    def fresh(n):
        return 0.1 * torch.rand(n, 4) - 0.05

    def step(self, action):
        x, v, th, w = self.state.unbind(1)
        force = torch.where(action == 1, 10.0, -10.0)
        sin, cos = th.sin(), th.cos()
        temp = (force + 0.05 * w**2 * sin) / 1.1
        w_acc = (9.8 * sin - cos * temp) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        v_acc = temp - 0.05 * w_acc * cos / 1.1
        tau = 0.02
        nxt = torch.stack([x + tau * v, v + tau * v_acc, th + tau * w, w + tau * w_acc], dim=1)
        fallen = (nxt[:, 0].abs() > 2.4) | (nxt[:, 2].abs() > 12 * math.pi / 180)
        self.age += 1
        over = fallen | (self.age >= self.limit)
        self.state = torch.where(over.unsqueeze(1), self.fresh(self.n), nxt)
        ages = self.age[over].tolist()
        self.age[over] = 0
        return nxt, fallen, ages


class ReplayMemory:
    def __init__(self, capacity):
        self.capacity, self.rows, self.position = capacity, [], 0

    def push(self, *columns):
        for row in zip(*columns, strict=True):
            if len(self.rows) < self.capacity:
                self.rows.append(None)
            self.rows[self.position] = Transition(*row)
            self.position = (self.position + 1) % self.capacity

    def sample(self, batch_size):
        return Transition(*(torch.stack(c) for c in zip(*random.sample(self.rows, batch_size), strict=True)))


class DQN(nn.Module):
    def __init__(self, n_observations=4, n_actions=2):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        x = x * torch.tensor([1.0, 0.5, 8.0, 0.5])
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


BATCH_SIZE, GAMMA, LR, TARGET_EVERY = 128, 0.97, 1e-3, 20
EPS_START, EPS_END, EPS_DECAY = 0.9, 0.05, 120

policy_net = DQN()
target_net = copy.deepcopy(policy_net)
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=LR, amsgrad=True)
memory = ReplayMemory(10000)
carts = Carts(24)


def select_action(state, eps):
    with torch.no_grad():
        greedy = policy_net(state).argmax(1)
    return torch.where(torch.rand(len(state)) < eps, torch.randint(0, 2, (len(state),)), greedy)


def optimize_model():
    batch = memory.sample(BATCH_SIZE)
    q = policy_net(batch.state).gather(1, batch.action.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        expected = batch.reward + GAMMA * batch.alive * target_net(batch.next_state).max(1).values
    loss = nn.SmoothL1Loss()(q, expected)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    return loss.item()


durations = []
for t in range(620):
    eps = EPS_END + (EPS_START - EPS_END) * math.exp(-t / EPS_DECAY)
    state = carts.state
    action = select_action(state, eps)
    next_state, fallen, ages = carts.step(action)
    durations += ages
    alive = (~fallen).float()
    memory.push(state, action, 0.1 * alive, next_state, alive)
    if t < 20:
        continue
    loss = optimize_model()
    if t % TARGET_EVERY == 0:
        target_net.load_state_dict(policy_net.state_dict())
    if t % 100 == 0:
        last = durations[-20:]
        print(f"step {t}  td loss {loss:.4f}  mean duration {sum(last) / len(last):.1f}")

policy_net.eval()
test = Carts(100)
up = torch.ones(100, dtype=torch.bool)
balanced = torch.zeros(100)
for _ in range(200):
    _, fallen, _ = test.step(select_action(test.state, 0.0))
    up &= ~fallen
    balanced += up
print(f"mean balanced steps {balanced.mean().item():.1f} of 200")
print(f"final_loss {1 - balanced.mean().item() / 200:.4f}")
