"""Where will a flock of 60 starlings turn, and how fast? From all of its members (deep sets)."""

import torch
import torch.nn as nn

torch.manual_seed(58)
N_BIRDS, N_FEATURES, N_TARGETS = 60, 5, 2


def flocks(n):
    mood = torch.randn(n, N_FEATURES)
    birds = mood[:, None] + 0.8 * torch.randn(n, N_BIRDS, N_FEATURES)
    turn = torch.sin(1.5 * mood[:, 0]) + 0.5 * mood[:, 1]
    speed = mood[:, 2].abs() - 0.8 + 0.6 * mood[:, 3] * torch.tanh(mood[:, 4])
    return birds, torch.stack([turn, speed], dim=1) + 0.1 * torch.randn(n, N_TARGETS)


class FlockNet(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(N_FEATURES, d), nn.ReLU(), nn.Linear(d, d))
        self.rho = nn.Linear(d, d)
        self.out = nn.Linear(d, N_TARGETS)

    def forward(self, birds):
        pooled = self.phi(birds).sum(dim=1)
        h = torch.tanh(self.rho(pooled))
        return self.out(h)


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.loss_fn = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def fit(self, n_steps, batch_size):
        self.model.train()
        for step in range(n_steps):
            birds, target = flocks(batch_size)
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(birds), target)
            loss.backward()
            self.optimizer.step()
            if step % 50 == 0:
                print(f"step {step}: loss={loss.item():.4f}")

    @torch.no_grad()
    def evaluate(self, n):
        self.model.eval()
        birds, target = flocks(n)
        return self.loss_fn(self.model(birds), target).item()


trainer = Trainer(FlockNet(), lr=3e-3)
trainer.fit(n_steps=350, batch_size=48)
print(f"final_loss {trainer.evaluate(1500):.4f}")
