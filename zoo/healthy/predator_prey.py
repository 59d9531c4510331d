"""Learn the motion of two populations from noisy counts: a neural ODE integrated by Euler and Runge-Kutta steps."""

import argparse

import numpy as np
import torch
import torch.nn as nn

parser = argparse.ArgumentParser("ODE demo")
parser.add_argument("--method", type=str, choices=["euler", "rk4"], default="rk4")
parser.add_argument("--data_size", type=int, default=160)
parser.add_argument("--batch_time", type=int, default=8)
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--niters", type=int, default=400)
parser.add_argument("--test_freq", type=int, default=80)
args = parser.parse_args()

torch.manual_seed(19)
np.random.seed(19)
DT = 0.1


def field(s):
    prey, hunters = s[..., 0], s[..., 1]
    return np.stack([1.1 * prey - 0.6 * prey * hunters, -0.8 * hunters + 0.4 * prey * hunters], axis=-1)


def simulate(start, steps):
    s, out = np.asarray(start, dtype=float), []
    for _ in range(steps):
        out.append(s)
        for _ in range(10):
            mid = s + 0.5 * DT / 10 * field(s)
            s = s + DT / 10 * field(mid)
    return np.stack(out)


def odeint(func, y0, steps, method):
    ys, y = [y0], y0
    for _ in range(steps - 1):
        if method == "euler":
            for _ in range(4):
                y = y + DT / 4 * func(y)
        else:
            k1 = func(y)
            k2 = func(y + DT / 2 * k1)
            k3 = func(y + DT / 2 * k2)
            k4 = func(y + DT * k3)
            y = y + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        ys.append(y)
    return torch.stack(ys)


class ODEFunc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
        for m in self.net.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, mean=0, std=0.1)
                nn.init.constant_(m.bias, val=0)

    def forward(self, y):
        return self.net(y)


starts = np.random.uniform([1.0, 0.8], [4.0, 3.0], (12, 2))
counts = np.log(np.stack([simulate(s, args.data_size) for s in starts]))
mean, std = counts.mean((0, 1)), counts.std((0, 1))
paths = torch.tensor((counts - mean) / std, dtype=torch.float32)
observed = paths + 0.03 * torch.randn_like(paths)
train_paths, test_paths = observed[:9], paths[9:]


def get_batch():
    which = torch.randint(0, len(train_paths), (args.batch_size,))
    when = torch.randint(0, args.data_size - args.batch_time, (args.batch_size,))
    batch_y = torch.stack([train_paths[which, when + i] for i in range(args.batch_time)])
    return batch_y[0], batch_y


func = ODEFunc()
optimizer = torch.optim.RMSprop(func.parameters(), lr=3e-3)


def test():
    with torch.no_grad():
        chunks = test_paths[:, :150].reshape(-1, 30, 2).transpose(0, 1)
        pred = odeint(func, chunks[0], 30, args.method)
        return (pred - chunks).pow(2).mean().item()


for itr in range(1, args.niters + 1):
    optimizer.zero_grad()
    batch_y0, batch_y = get_batch()
    pred_y = odeint(func, batch_y0, args.batch_time, args.method)
    loss = torch.mean(torch.abs(pred_y - batch_y))
    loss.backward()
    optimizer.step()
    if itr % args.test_freq == 0:
        print(f"Iter {itr:04d} | Total Loss {test():.6f}")

print(f"final_loss {test():.5f}")
