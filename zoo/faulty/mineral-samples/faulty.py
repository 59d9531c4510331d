"""Sort mineral samples into seven kinds by eleven measurements."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(36)

n_measures, n_kinds = 11, 7
direction, bend = torch.randn(2, n_measures, n_kinds).unbind(0)


def samples(n):
    x = torch.randn(n, n_measures)
    return x, (x @ direction + (x @ bend).abs() + 0.5 * torch.randn(n, n_kinds)).argmax(1)


x_train, y_train = samples(8000)
x_test, y_test = samples(2000)

layers = []
for n_in, n_out in [(n_measures, 64), (64, 64), (64, n_kinds)]:
    linear = nn.Linear(n_in, n_out)
    nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    layers += [linear, nn.ReLU()]
model = nn.Sequential(*layers)
with torch.no_grad():
    model[4].weight *= 0.2

optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)

for step in range(500):
    ix = torch.randint(0, len(x_train), (50,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
