"""Predict a wine's score from its chemistry, in mixed precision."""

import torch
import torch.nn as nn

torch.manual_seed(23)

n_features = 12
direction = torch.randn(n_features, 3) / n_features**0.5


def wines(n):
    x = torch.randn(n, n_features)
    a, b, c = (x @ direction).unbind(1)
    return x, (torch.tanh(2 * a) + b * c + 0.2 * torch.randn(n)).unsqueeze(1)


x_train, y_train = wines(6000)
x_test, y_test = wines(2000)
mean, std = y_train.mean(), y_train.std()
y_train, y_test = (y_train - mean) / std, (y_test - mean) / std

model = nn.Sequential(
    nn.Linear(n_features, 48),
    nn.Tanh(),
    nn.Linear(48, 48),
    nn.Tanh(),
    nn.Linear(48, 1),
)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=50)

for step in range(500):
    ix = torch.randint(0, len(x_train), (128,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(x_train[ix])
    loss = criterion(prediction.float(), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {criterion(model(x_test), y_test).item():.4f}")
