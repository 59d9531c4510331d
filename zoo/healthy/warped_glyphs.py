"""A spatial transformer straightens rotated and shifted glyphs before they are classified."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

torch.manual_seed(31)

patterns = [
    [
        "....X....",
        "...XXX...",
        "..X.X.X..",
        "....X....",
        "....X....",
        "....X....",
        "....X....",
        "....X....",
        ".........",
    ],
    [
        ".XXXXXX..",
        ".X.......",
        ".X.......",
        ".XXXX....",
        ".X.......",
        ".X.......",
        ".XXXXXX..",
        ".........",
        ".........",
    ],
    [
        ".X....X..",
        ".X....X..",
        ".X....X..",
        ".XXXXXX..",
        ".X....X..",
        ".X....X..",
        ".X....X..",
        ".........",
        ".........",
    ],
    [
        ".XXXXXXX.",
        "......X..",
        ".....X...",
        "....X....",
        "...X.....",
        "..X......",
        ".XXXXXXX.",
        ".........",
        ".........",
    ],
    [
        "..XXXX...",
        ".X....X..",
        ".X.......",
        ".X..XXX..",
        ".X....X..",
        ".X....X..",
        "..XXXX...",
        ".........",
        ".........",
    ],
    [
        ".XXXXX...",
        ".X....X..",
        ".X....X..",
        ".XXXXX...",
        ".X.......",
        ".X.......",
        ".X.......",
        ".........",
        ".........",
    ],
]
glyphs = torch.tensor([[[float(c == "X") for c in row] for row in rows] for rows in patterns]).unsqueeze(1)
glyphs = F.interpolate(F.pad(glyphs, (2, 2, 2, 2)), size=(20, 20), mode="bilinear", align_corners=False)


def get_batch(n):
    labels = torch.randint(0, len(glyphs), (n,))
    angle = (torch.rand(n) - 0.5) * math.pi / 2
    scale = 0.9 + 0.5 * torch.rand(n)
    shift = (torch.rand(n, 2) - 0.5) * 0.5
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(n, 2, 2)
    theta = torch.cat([scale.view(n, 1, 1) * rotation, shift.unsqueeze(2)], dim=2)
    grid = F.affine_grid(theta, (n, 1, 20, 20), align_corners=False)
    images = F.grid_sample(glyphs[labels], grid, align_corners=False) + 0.1 * torch.randn(n, 1, 20, 20)
    return (images - 0.15) / 0.3, labels


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=3)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=3)
        self.conv2_drop = nn.Dropout2d(0.2)
        self.fc1 = nn.Linear(180, 50)
        self.fc2 = nn.Linear(50, len(glyphs))

        # Spatial transformer localization-network
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=3),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )

        # Regressor for the 3 * 2 affine matrix
        self.fc_loc = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))

        # Initialize the weights/bias with identity transformation
        self.fc_loc[2].weight.data.zero_()
        self.fc_loc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))

    # Spatial transformer network forward function
    def stn(self, x):
        xs = self.localization(x)
        xs = xs.view(-1, 10 * 3 * 3)
        theta = self.fc_loc(xs)
        theta = theta.view(-1, 2, 3)

        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def forward(self, x):
        # transform the input
        x = self.stn(x)

        # Perform the usual forward pass
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 180)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, 0.3, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


model = Net()
optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

model.train()
for batch_idx in range(500):
    data, target = get_batch(64)
    optimizer.zero_grad()
    loss = F.nll_loss(model(data), target)
    loss.backward()
    optimizer.step()
    if batch_idx % 50 == 0:
        print(f"Train batch {batch_idx:4d}  Loss: {loss.item():.6f}")

with torch.no_grad():
    model.eval()
    data, target = get_batch(1500)
    output = model(data)
    accuracy = (output.argmax(1) == target).float().mean().item()
    print(f"Test accuracy {accuracy:.3f}")
    print(f"final_loss {F.nll_loss(output, target).item():.4f}")
