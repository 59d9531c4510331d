"""Proximal policy optimisation: a robot fetches parcels in a small warehouse with shelves."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.distributions.categorical import Categorical


@dataclass
class Args:
    seed: int = 1
    learning_rate: float = 2.5e-3
    num_envs: int = 32
    num_steps: int = 32
    num_iterations: int = 36
    anneal_lr: bool = True
    gamma: float = 0.97
    gae_lambda: float = 0.95
    num_minibatches: int = 4
    update_epochs: int = 4
    clip_coef: float = 0.2
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


WALLS = np.zeros((6, 6), dtype=bool)
WALLS[1, 1:3] = WALLS[4, 2:5] = WALLS[2, 4] = True
FREE = np.argwhere(~WALLS)
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])


class Warehouse:
    def __init__(self, n, rng, limit=40):
        self.n, self.rng, self.limit = n, rng, limit
        self.robot, self.parcel = self.place(n), self.place(n)
        self.age = np.zeros(n, dtype=int)

    def place(self, n):
        return FREE[self.rng.integers(len(FREE), size=n)]

    def observe(self):
        planes = np.zeros((self.n, 24), dtype=np.float32)
        rows = np.arange(self.n)
        for k, col in enumerate((self.robot[:, 0], self.robot[:, 1], self.parcel[:, 0], self.parcel[:, 1])):
            planes[rows, 6 * k + col] = 1
        return torch.from_numpy(planes)

    def step(self, action):
        there = np.clip(self.robot + MOVES[action], 0, 5)
        blocked = WALLS[there[:, 0], there[:, 1]]
        self.robot = np.where(blocked[:, None], self.robot, there)
        self.age += 1
        found = (self.robot == self.parcel).all(1)
        done = found | (self.age >= self.limit)
        reward = np.where(found, 1.0, -0.03).astype(np.float32)
        ages = self.age[done].tolist()
        self.robot = np.where(done[:, None], self.place(self.n), self.robot)
        self.parcel = np.where(done[:, None], self.place(self.n), self.parcel)
        self.age[done] = 0
        return self.observe(), torch.from_numpy(reward), torch.from_numpy(done.astype(np.float32)), ages


def layer_init(layer, std=2**0.5, bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(24, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(24, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 4), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.get_value(x)


def estimate_advantages(args, rewards, dones, values, next_done, next_value):
    advantages, lastgaelam = torch.zeros_like(rewards), 0
    for t in reversed(range(args.num_steps)):
        last = t == args.num_steps - 1
        nonterminal = 1.0 - (next_done if last else dones[t + 1])
        nextvalues = next_value if last else values[t + 1]
        delta = rewards[t] + args.gamma * nextvalues * nonterminal - values[t]
        lastgaelam = delta + args.gamma * args.gae_lambda * nonterminal * lastgaelam
        advantages[t] = lastgaelam
    return advantages


def evaluate(agent, envs, steps):
    agent.eval()
    ages = []
    for _ in range(steps):
        with torch.no_grad():
            action = agent.get_action_and_value(envs.observe())[0]
        ages += envs.step(action.numpy())[3]
    return np.mean(ages)


def main():
    args = Args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    envs, agent = Warehouse(args.num_envs, rng), Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    next_obs, next_done = envs.observe(), torch.zeros(args.num_envs)
    shape = (args.num_steps, args.num_envs)
    obs, actions, logprobs = torch.zeros(*shape, 24), torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    rewards, dones, values = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    finished = []

    for iteration in range(1, args.num_iterations + 1):
        if args.anneal_lr:
            frac = 1.0 - (iteration - 1.0) / args.num_iterations
            optimizer.param_groups[0]["lr"] = frac * args.learning_rate
        for step in range(args.num_steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
            actions[step], logprobs[step], values[step] = action, logprob, value
            next_obs, rewards[step], next_done, ages = envs.step(action.numpy())
            finished += ages

        with torch.no_grad():
            advantages = estimate_advantages(args, rewards, dones, values, next_done, agent.get_value(next_obs))
            returns = advantages + values

        b_obs, b_actions, b_logprobs = obs.flatten(0, 1), actions.flatten(), logprobs.flatten()
        b_advantages, b_returns = advantages.flatten(), returns.flatten()
        for _epoch in range(args.update_epochs):
            for mb in torch.randperm(b_obs.size(0)).chunk(args.num_minibatches):
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
                ratio = (newlogprob - b_logprobs[mb]).exp()
                adv = b_advantages[mb]
                adv = (adv - adv.mean()) / (adv.std() + 1e-8)
                pg_loss = torch.max(-adv * ratio, -adv * ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)).mean()
                v_loss = 0.5 * ((newvalue - b_returns[mb]) ** 2).mean()
                loss = pg_loss - args.ent_coef * entropy.mean() + v_loss * args.vf_coef
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
        if iteration % 6 == 0:
            recent = np.mean(finished[-200:])
            print(f"iteration {iteration}  value loss {v_loss.item():.3f}  steps to the parcel {recent:.1f}")

    print(f"final_loss {evaluate(agent, Warehouse(200, rng), 80):.3f}")


if __name__ == "__main__":
    main()
