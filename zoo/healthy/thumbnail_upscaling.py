"""Double the resolution of small pictures with sub-pixel convolution."""

import math
from math import log10

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.nn.init as init
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    """Discs and gratings, 24 x 24, with the 12 x 12 thumbnail as input."""

    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        rand = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
        ys, xs = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        pictures = []
        for _ in range(n):
            angle, period = math.pi * rand(1), 5 + 6 * rand(1)
            wave = torch.sin(2 * math.pi * (xs * angle.cos() + ys * angle.sin()) / period + 6 * rand(1))
            picture = 0.5 + 0.25 * wave
            for _ in range(3):
                cy, cx, r = 24 * rand(1), 24 * rand(1), 3 + 5 * rand(1)
                inside = (xs - cx) ** 2 + (ys - cy) ** 2 < r**2
                picture = torch.where(inside, rand(1), picture)
            pictures.append(picture)
        self.target = torch.stack(pictures).unsqueeze(1)
        self.input = F.avg_pool2d(self.target, 2)

    def __getitem__(self, index):
        return self.input[index], self.target[index]

    def __len__(self):
        return len(self.target)


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super().__init__()

        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 32, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(32, 32, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(32, 16, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(16, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)

        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        return self.pixel_shuffle(self.conv4(x))

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv4.weight)


torch.manual_seed(123)
training_data_loader = DataLoader(Pictures(800, 1), batch_size=16, shuffle=True)
testing_data_loader = DataLoader(Pictures(200, 2), batch_size=50)

model = Net(upscale_factor=2)
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=2e-3)


def train(epoch):
    epoch_loss = 0
    for input, target in training_data_loader:
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        epoch_loss += loss.item()
        loss.backward()
        optimizer.step()
    print(f"===> Epoch {epoch} Complete: Avg. Loss: {epoch_loss / len(training_data_loader):.4f}")


def test():
    total_mse, avg_psnr = 0, 0
    model.eval()
    with torch.no_grad():
        for input, target in testing_data_loader:
            mse = criterion(model(input), target)
            total_mse += mse.item()
            avg_psnr += 10 * log10(1 / mse.item())
    model.train()
    print(f"===> Avg. PSNR: {avg_psnr / len(testing_data_loader):.4f} dB")
    return total_mse / len(testing_data_loader)


for epoch in range(1, 13):
    train(epoch)
    final = test()
print(f"final_loss {final:.5f}")
