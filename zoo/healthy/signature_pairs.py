"""Siamese network: were two signatures written by the same hand? Contrastive loss on pairs."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2024)
N_POINTS, N_WAVES = 64, 5


class Writers:
    def __init__(self, n):
        self.coef = torch.randn(n, 2, 2 * N_WAVES) / torch.arange(1, N_WAVES + 1).repeat(2).sqrt()

    def sign(self, who):
        n = len(who)
        coef = self.coef[who] + 0.25 * torch.randn(n, 2, 2 * N_WAVES)
        t = torch.linspace(0, 1, N_POINTS) ** (0.85 + 0.3 * torch.rand(n, 1))
        k = 2 * math.pi * torch.arange(1, N_WAVES + 1)
        phase = k.view(1, -1, 1) * t.unsqueeze(1)
        basis = torch.cat([phase.sin(), phase.cos()], dim=1)
        path = torch.bmm(coef, basis) * (0.8 + 0.4 * torch.rand(n, 1, 1))
        return path + 0.05 * torch.randn_like(path)

    def pairs(self, n):
        first = torch.randint(0, len(self.coef), (n,))
        other = (first + torch.randint(1, len(self.coef), (n,))) % len(self.coef)
        same = torch.rand(n) < 0.5
        return self.sign(first), self.sign(torch.where(same, first, other)), (~same).float()


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn1 = nn.Sequential(
            nn.Conv1d(2, 16, kernel_size=5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(16),
            nn.Conv1d(16, 32, kernel_size=5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(32),
        )
        self.fc1 = nn.Sequential(
            nn.Linear(32 * N_POINTS // 4, 64),
            nn.ReLU(inplace=True),
            nn.Linear(64, 16),
        )

    def forward_once(self, x):
        output = self.cnn1(x)
        output = output.view(output.size(0), -1)
        return self.fc1(output)

    def forward(self, input1, input2):
        return self.forward_once(input1), self.forward_once(input2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        distance = F.pairwise_distance(output1, output2)
        near = (1 - label) * torch.pow(distance, 2)
        far = label * torch.pow(torch.clamp(self.margin - distance, min=0.0), 2)
        return torch.mean(near + far)


train_writers, test_writers = Writers(200), Writers(60)
net = SiameseNetwork()
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)

counter, loss_history = [], []
for iteration in range(500):
    img0, img1, label = train_writers.pairs(64)
    optimizer.zero_grad()
    output1, output2 = net(img0, img1)
    loss_contrastive = criterion(output1, output2, label)
    loss_contrastive.backward()
    optimizer.step()
    if iteration % 50 == 0:
        print(f"Iteration {iteration}  Current loss {loss_contrastive.item():.4f}")
        counter.append(iteration)
        loss_history.append(loss_contrastive.item())

net.eval()
with torch.no_grad():
    img0, img1, label = test_writers.pairs(2000)
    output1, output2 = net(img0, img1)
    distance = F.pairwise_distance(output1, output2)
    right = ((distance > 1.0).float() == label).float().mean()
    print(f"right on new writers {right.item():.3f}")
    print(f"final_loss {criterion(output1, output2, label).item():.4f}")
