"""Forecast tomorrow's rain with its uncertainty from two weeks of weather."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(66)

n_days, n_features = 14, 4


def weather(n):
    days = torch.randn(n, n_days, n_features)
    days[:, 1:] = 0.7 * days[:, :-1] + 0.7 * days[:, 1:]
    mean = days[:, -1, 0] - 0.5 * days[:, -3, 1] + 0.5 * torch.tanh(days[:, -1, 2])
    spread = 0.1 + 0.4 * torch.sigmoid(2 * days[:, -1, 3])
    return days, mean + spread * torch.randn(n)


class Forecast(nn.Module):
    def __init__(self, n_hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(n_features, n_hidden, batch_first=True)
        self.mean = nn.Linear(n_hidden, 1)
        self.variance = nn.Linear(n_hidden, 1)

    def forward(self, days):
        last = self.lstm(days)[0][:, -1]
        variance = F.relu(self.variance(last))
        return self.mean(last).squeeze(1), variance.squeeze(1)


def negative_log_likelihood(mean, variance, rain):
    nll = 0.5 * (variance.log() + (rain - mean) ** 2 / variance)
    return nll.mean()


x_train, y_train = weather(6000)
x_val, y_val = weather(1500)
model = Forecast()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1.5e-3)

for step in range(400):
    ix = torch.randint(0, len(x_train), (64,))
    mean, variance = model(x_train[ix])
    loss = negative_log_likelihood(mean, variance, y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_val)[0], y_val).item():.4f}")
