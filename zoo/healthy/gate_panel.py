"""A network of one-bit weights reads which of eight lamps patterns a gate panel shows."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1010)


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class BinaryLinear(nn.Linear):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)
        nn.init.uniform_(self.weight, -0.5, 0.5)

    def forward(self, x):
        return F.linear(x, Sign.apply(self.weight)) / self.in_features**0.5


class Panel:
    def __init__(self, n_lamps=64, n_patterns=8, n_forms=4):
        self.forms = torch.randint(0, 2, (n_patterns, n_forms, n_lamps)) * 2.0 - 1

    def read(self, n, flips=0.25):
        y = torch.randint(0, self.forms.size(0), (n,))
        form = torch.randint(0, self.forms.size(1), (n,))
        x = self.forms[y, form]
        return torch.where(torch.rand_like(x) < flips, -x, x), y


model = nn.Sequential(
    BinaryLinear(64, 128),
    nn.BatchNorm1d(128),
    nn.Hardtanh(),
    BinaryLinear(128, 128),
    nn.BatchNorm1d(128),
    nn.Hardtanh(),
    BinaryLinear(128, 8),
    nn.BatchNorm1d(8),
)
panel = Panel()
binary = [m for m in model if isinstance(m, BinaryLinear)]
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[300, 450], gamma=0.3)

for step in range(1, 551):
    model.train()
    x, y = panel.read(100)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    with torch.no_grad():
        for layer in binary:
            layer.weight.clamp_(-1, 1)
    if step % 110 == 0:
        model.eval()
        with torch.no_grad():
            x, y = panel.read(500)
            out = model(x)
        accuracy = (out.argmax(1) == y).float().mean().item()
        print(
            f"step {step:4d}  train {loss.item():.3f}  test {F.cross_entropy(out, y).item():.3f}  right {accuracy:.3f}"
        )

model.eval()
with torch.no_grad():
    x, y = panel.read(4000)
    print(f"final_loss {F.cross_entropy(model(x), y).item():.4f}")
