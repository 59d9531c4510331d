"""Say in which direction a bright dot drifts through six small frames."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(43)

side, n_frames = 10, 6
axis = torch.arange(side)
steps_of = torch.tensor([[0.0, 0.6], [0.6, 0.0], [0.0, -0.6], [-0.6, 0.0]])


def clips(n):
    label = torch.randint(0, 4, (n,))
    centre = 3.5 + 2 * torch.rand(n, 1, 2)
    path = centre + steps_of[label][:, None] * (torch.arange(n_frames)[None, :, None] - 2.5)
    rows = torch.exp(-0.5 * (axis - path[..., :1]) ** 2)
    cols = torch.exp(-0.5 * (axis - path[..., 1:]) ** 2)
    frames = rows[..., :, None] * cols[..., None, :]
    return (frames + 0.6 * torch.randn_like(frames) - 0.06) / 0.63, label


class DriftNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(n_frames, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4, 48)
        self.fc2 = nn.Linear(48, 4)
        for layer in (self.conv1, self.conv2, self.fc1):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, frames):
        x = F.max_pool2d(F.relu(self.conv1(frames)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def evaluate(model, frames, label):
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(frames), label).item()


model = DriftNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
for step in range(250):
    frames, label = clips(48)
    loss = F.cross_entropy(model(frames), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")
print(f"final_loss {evaluate(model, *clips(1500)):.4f}")
