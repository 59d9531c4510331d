"""Sort 12x12 grey photographs of garments by their outline."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(4)

side = 12
outlines = torch.zeros(4, side, side)
outlines[0, 2:10, 3:9] = 1  # shirt body
outlines[0, 2:5, 1:11] = 1
outlines[1, 1:11, 4:8] = 1  # dress
outlines[1, 7:11, 2:10] = 1
outlines[2, 1:11, 3:5] = 1  # trousers
outlines[2, 1:11, 7:9] = outlines[2, 1:3, 3:9] = 1
outlines[3, 6:10, 1:11] = 1  # shoe
outlines[3, 3:8, 1:5] = 1


def photographs(n):
    label = torch.randint(0, 4, (n,))
    brightness = 110 + 90 * torch.rand(n, 1, 1)
    images = brightness * outlines[label] + 20 + 60 * torch.randn(n, side, side)
    images = images.clamp(0, 255).to(torch.uint8).unsqueeze(1)
    return images.float(), label


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc = nn.Linear(24 * 9, 4)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(F.max_pool2d(x, 2)))
        return self.fc(F.avg_pool2d(x, 2).flatten(1))


x_train, y_train = photographs(3000)
x_test, y_test = photographs(1000)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for step in range(200):
    ix = torch.randint(0, len(x_train), (48,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
