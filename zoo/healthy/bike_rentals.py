# Bike rentals: hourly demand with an LSTM.  Sliding windows, one step ahead.
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
np.random.seed(7)

LOOKBACK = 24
HIDDEN = 48
BATCH = 64
EPOCHS = 5


def make_series(days=180):
    t = np.arange(days * 24)
    hour, day = t % 24, t // 24
    weekend = (day % 7) >= 5
    work = np.exp(-((hour - 8) ** 2) / 4) + 1.2 * np.exp(-((hour - 17.5) ** 2) / 6)
    leisure = 0.9 * np.exp(-((hour - 14) ** 2) / 20)
    temp = 12 + 8 * np.sin(2 * np.pi * day / 365) + np.convolve(np.random.randn(len(t)), np.ones(48) / 7, "same")
    rain = (np.convolve(np.random.rand(len(t)) < 0.03, np.ones(5), "full")[: len(t)] > 0).astype(float)
    demand = np.where(weekend, leisure, work) * (0.5 + temp.clip(0) / 20) * (1 - 0.6 * rain) * 400
    demand = demand + 15 + 12 * np.random.randn(len(t))
    return np.stack([demand.clip(0), temp, rain, weekend.astype(float), np.sin(hour / 24 * 2 * np.pi)], 1)


data = make_series().astype(np.float32)
split = int(len(data) * 0.8)
lo, hi = data[:split].min(0), data[:split].max(0)
data = (data - lo) / (hi - lo)  # MinMaxScaler


def windows(rows):
    xs = np.stack([rows[i : i + LOOKBACK] for i in range(len(rows) - LOOKBACK)])
    ys = rows[LOOKBACK:, :1]
    return TensorDataset(torch.from_numpy(xs), torch.from_numpy(ys))


train_loader = DataLoader(windows(data[:split]), batch_size=BATCH, shuffle=True)
test_set = windows(data[split:])


class DemandLSTM(nn.Module):
    def __init__(self, n_features, hidden_size, num_layers=1):
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.lstm = nn.LSTM(n_features, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, x):
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size)
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


model = DemandLSTM(data.shape[1], HIDDEN)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

for epoch in range(EPOCHS):
    model.train()
    losses = []
    for xb, yb in train_loader:
        y_pred = model(xb)
        loss = criterion(y_pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"Epoch {epoch}: train MSE {np.mean(losses):.5f}")

model.eval()
with torch.no_grad():
    x, y = test_set.tensors
    pred = model(x)
    rmse = criterion(pred, y).sqrt().item() * float(hi[0] - lo[0])
    print(f"test RMSE {rmse:.1f} bikes; variance of the target {y.var().item():.5f}")
    print(f"final_loss {criterion(pred, y).item():.5f}")
