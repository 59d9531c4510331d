"""Sparse mixture of experts: noisy top-2 gating, with penalties that keep the experts equally busy."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(88)


class Calls:
    """The line a call comes from decides which function of the signal is the charge."""

    def __init__(self, n_lines=6, n_features=10):
        self.centres = 2.0 * torch.randn(n_lines, 4)
        self.w = torch.randn(n_lines, n_features) / n_features**0.5
        self.v = torch.randn(n_lines, n_features) / n_features**0.5
        self.n_lines, self.n_features = n_lines, n_features

    def sample(self, n):
        line = torch.randint(0, self.n_lines, (n,))
        where = self.centres[line] + 0.5 * torch.randn(n, 4)
        signal = torch.randn(n, self.n_features)
        y = (signal * self.w[line]).sum(1) + (signal * self.v[line]).sum(1).abs() - 0.8
        return torch.cat([where, signal], dim=1), y + 0.1 * torch.randn(n)


class MoE(nn.Module):
    def __init__(self, input_size, num_experts=8, hidden_size=24, k=2):
        super().__init__()
        self.num_experts, self.k = num_experts, k
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))
            for _ in range(num_experts)
        )
        self.w_gate = nn.Parameter(torch.zeros(input_size, num_experts))
        self.w_noise = nn.Parameter(torch.zeros(input_size, num_experts))

    def noisy_top_k_gating(self, x):
        logits = x @ self.w_gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(x @ self.w_noise) + 1e-2)
        top, index = logits.topk(self.k, dim=1)
        return torch.zeros_like(logits).scatter(1, index, top.softmax(dim=1))

    @staticmethod
    def cv_squared(x, eps=1e-10):
        return x.var() / (x.mean() ** 2 + eps)

    def forward(self, x):
        gates = self.noisy_top_k_gating(x)
        loss = self.cv_squared(gates.sum(0))
        y = torch.zeros(len(x))
        for i, expert in enumerate(self.experts):
            rows = gates[:, i].nonzero(as_tuple=True)[0]
            if len(rows):
                y = y.index_add(0, rows, gates[rows, i] * expert(x[rows]).squeeze(1))
        return y, loss


calls = Calls()
model = MoE(input_size=4 + calls.n_features)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

model.train()
for step in range(500):
    x, y = calls.sample(256)
    pred, balance = model(x)
    loss = F.mse_loss(pred, y)
    total = loss + 0.01 * balance
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  mse {loss.item():.4f}  balance {balance.item():.3f}")

model.eval()
with torch.no_grad():
    x, y = calls.sample(4000)
    pred, _ = model(x)
    print(f"variance {y.var().item():.4f}")
    print(f"final_loss {F.mse_loss(pred, y).item():.4f}")
