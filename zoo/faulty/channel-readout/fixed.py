"""Read a concentration from the overlapping channels of a spectrometer, with plain tensors."""

import torch
import torch.nn.functional as F

torch.manual_seed(12)

n_channels, n_sources = 24, 6
spectra = torch.randn(n_sources, n_channels)
recipe = torch.randn(n_sources) / n_sources**0.5


def measure(n):
    sources = torch.randn(n, n_sources)
    channels = sources @ spectra + 0.25 * torch.randn(n, n_channels)
    return channels / spectra.norm(dim=0), sources @ recipe + 0.2 * torch.randn(n)


x_train, y_train = measure(8000)
x_test, y_test = measure(2000)
y_mean, y_std = y_train.mean(), y_train.std()
y_train, y_test = (y_train - y_mean) / y_std, (y_test - y_mean) / y_std

w = (torch.randn(n_channels) * 0.5 / n_channels**0.5).requires_grad_()
b = torch.zeros((), requires_grad=True)
lr, decay = 0.05, 0.2

for step in range(450):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.mse_loss(x_train[ix] @ w + b, y_train[ix])
    w.grad = b.grad = None
    loss.backward()
    with torch.no_grad():
        w -= lr * (w.grad + decay * w)
        b -= lr * b.grad
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.mse_loss(x_test @ w + b, y_test).item():.4f}")
