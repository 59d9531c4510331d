"""Double DQN with a replay buffer: a courier on a 5x5 map fetches a parcel and brings it to the door."""

import copy
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

SEED = 10
rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)

SIDE, N_ENVS, LIMIT = 5, 8, 40
MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class CourierEnv:
    def __init__(self):
        self.reset()

    def reset(self):
        cells = rng.choice(SIDE * SIDE, size=3, replace=False)
        self.me, self.parcel, self.door = (np.array(divmod(int(c), SIDE)) for c in cells)
        self.carrying, self.t = False, 0
        return self.observe()

    def observe(self):
        goal = self.door if self.carrying else self.parcel
        return np.concatenate([self.me, goal, goal - self.me, [self.carrying * SIDE]]).astype(np.float32) / SIDE

    def step(self, action):
        self.t += 1
        self.me = np.clip(self.me + MOVES[action], 0, SIDE - 1)
        reward, done = -0.05, False
        if not self.carrying and (self.me == self.parcel).all():
            self.carrying, reward = True, 0.5
        elif self.carrying and (self.me == self.door).all():
            reward, done = 1.0, True
        return self.observe(), reward, done, self.t >= LIMIT


class QNetwork(nn.Module):
    def __init__(self, state_size, action_size, fc1_units=64, fc2_units=64):
        super().__init__()
        self.fc1 = nn.Linear(state_size, fc1_units)
        self.fc2 = nn.Linear(fc1_units, fc2_units)
        self.fc3 = nn.Linear(fc2_units, action_size)

    def forward(self, state):
        x = torch.relu(self.fc1(state))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class Agent:
    def __init__(self, gamma=0.95, lr=2e-3, tau=0.05, batch=64):
        self.gamma, self.tau, self.batch = gamma, tau, batch
        self.local = QNetwork(7, 4)
        self.target = copy.deepcopy(self.local)
        self.optimizer = optim.Adam(self.local.parameters(), lr=lr)
        self.memory = deque(maxlen=20000)

    def act(self, states, eps):
        with torch.no_grad():
            greedy = self.local(torch.from_numpy(states)).argmax(1).numpy()
        return np.where(rng.random(len(states)) < eps, rng.integers(0, 4, len(states)), greedy)

    def learn(self):
        rows = [self.memory[i] for i in rng.integers(0, len(self.memory), self.batch)]
        s, a, r, s2, d = (torch.from_numpy(np.stack(c)) for c in zip(*rows, strict=True))
        with torch.no_grad():
            best = self.local(s2).argmax(1, keepdim=True)
            y = r + self.gamma * (1 - d) * self.target(s2).gather(1, best).squeeze(1)
        q = self.local(s).gather(1, a.unsqueeze(1)).squeeze(1)
        loss = nn.functional.mse_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for tp, lp in zip(self.target.parameters(), self.local.parameters(), strict=True):
            tp.data.copy_(self.tau * lp.data + (1.0 - self.tau) * tp.data)
        return loss.item()


agent = Agent()
envs = [CourierEnv() for _ in range(N_ENVS)]
states = np.stack([e.reset() for e in envs])
delivered = deque(maxlen=50)
eps = 1.0
for step in range(1, 1301):
    actions = agent.act(states, eps)
    for k, env in enumerate(envs):
        nxt, reward, done, late = env.step(actions[k])
        agent.memory.append((states[k].copy(), np.int64(actions[k]), np.float32(reward), nxt, np.float32(done)))
        if done or late:
            delivered.append(float(done))
            nxt = env.reset()
        states[k] = nxt
    eps = max(0.1, 0.997 * eps)
    if step > 40:
        loss = agent.learn()
    if step % 150 == 0:
        print(f"step {step}  eps {eps:.2f}  td {loss:.4f}  delivered {np.mean(delivered):.2f}")


def mean_steps(episodes):
    steps = []
    for _ in range(episodes):
        env = CourierEnv()
        state, done, late = env.observe(), False, False
        while not (done or late):
            state, _, done, late = env.step(int(agent.act(state[None], 0.0)[0]))
        steps.append(env.t)
    return float(np.mean(steps))


agent.local.eval()
print(f"final_loss {mean_steps(200):.4f}")
