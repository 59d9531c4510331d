"""Sort castings into good ones and two kinds of rejects; the rejects are few and weigh more in the loss."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(223)

share = torch.tensor([0.8, 0.12, 0.08])
signature = torch.randn(3, 16)


def castings(n):
    kind = torch.multinomial(share, n, replacement=True)
    x = signature[kind] + torch.randn(n, 16)
    x[:, :4] = torch.where((kind == 2).unsqueeze(1), -x[:, :4], x[:, :4])
    return TensorDataset(x / 1.4, kind)


model = nn.Sequential(
    nn.Linear(16, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 3),
)
criterion = nn.CrossEntropyLoss(weight=(1 / share) / (1 / share).mean(), label_smoothing=0.1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
train, test = castings(6400), castings(3000)

for epoch in range(4):
    model.train()
    for x, y in DataLoader(train, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = test.tensors
    print(f"final_loss {criterion(model(x), y).item():.4f}")
