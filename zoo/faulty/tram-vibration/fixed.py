"""Wheel wear (4 grades) from axle vibration spectra. Deep plain MLP."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(640)
BANDS, GRADES = 32, 4
peaks = torch.randn(GRADES, 3, BANDS)


def spectra(n):
    grade = torch.randint(GRADES, (n,))
    line = torch.randint(3, (n,))
    return 0.7 * peaks[grade, line] + 0.8 * torch.randn(n, BANDS), grade


class WearNet(nn.Module):
    def __init__(self, width=80, depth=7):
        super().__init__()
        sizes = [BANDS] + [width] * depth
        self.layers = nn.ModuleList([nn.Linear(sizes[i], sizes[i + 1]) for i in range(depth)])
        self.classifier = nn.Linear(width, GRADES)
        self._initialize_weights()

    def _initialize_weights(self):
        for m in self.layers:
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.constant_(m.bias, 0)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.classifier(x)


model = WearNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
model.train()
for i in range(300):
    inputs, targets = spectra(64)
    outputs = model(inputs)
    loss = F.cross_entropy(outputs, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if i % 50 == 0:
        print(f"[{i:3d}/300] loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    inputs, targets = spectra(3000)
    print(f"final_loss {F.cross_entropy(model(inputs), targets).item():.4f}")
