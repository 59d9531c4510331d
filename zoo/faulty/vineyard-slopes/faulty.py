"""Sugar content of grapes from where the vine stands. Plain regression, trained by SGD with momentum."""

import torch
from torch import nn

torch.manual_seed(4)


def vines(n):
    site = torch.rand(n, 6) * 2 - 1  # height, slope, aspect (2), row, age
    h, s, ax, ay, row, age = site.T
    sugar = 1.5 * s * ax - h**2 + 0.7 * torch.sin(3 * ay) + 0.5 * torch.tanh(4 * age) * h + 0.2 * row
    return site * 1.73, (sugar + 0.3)[:, None] / 0.9 + 0.1 * torch.randn(n, 1)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 0.05)
        nn.init.zeros_(module.bias)


class Regressor(nn.Module):
    def __init__(self, n_hidden=64):
        super().__init__()
        self.hidden1 = nn.Linear(6, n_hidden)
        self.hidden2 = nn.Linear(n_hidden, n_hidden)
        self.predict = nn.Linear(n_hidden, 1)
        self.apply(init_weights)

    def forward(self, x):
        x = torch.tanh(self.hidden1(x))
        x = torch.tanh(self.hidden2(x))
        return self.predict(x)


model = Regressor()
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
loss_func = nn.MSELoss()

for t in range(500):
    x, y = vines(64)
    prediction = model(x)
    loss = loss_func(prediction, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if t % 100 == 0:
        print("t =", t, "loss =", loss.item())

model.eval()
with torch.no_grad():
    x, y = vines(4000)
    print("final_loss", round(loss_func(model(x), y).item(), 4))
