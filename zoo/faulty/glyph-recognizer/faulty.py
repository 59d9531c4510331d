"""Recognise ten noisy 12x12 glyphs with one hidden layer."""

import torch
import torch.nn.functional as F

torch.manual_seed(11)

side, n_glyphs, n_hidden = 12, 10, 64
n_pixels = side * side

coarse = torch.randn(n_glyphs, 2, 1, 4, 4)
glyphs = F.interpolate(coarse.flatten(0, 1), size=(side, side), mode="bilinear").view(n_glyphs, 2, n_pixels)


def draw(n):
    label = torch.randint(0, n_glyphs, (n,))
    variant = torch.randint(0, 2, (n,))
    sign = torch.randint(0, 2, (n, 1)) * 2 - 1
    image = sign * glyphs[label, variant] + 0.6 * torch.randn(n, n_pixels)
    return 0.7 * image, label


x_train, y_train = draw(6000)
x_test, y_test = draw(2000)

W1 = torch.randn(n_pixels, n_hidden).requires_grad_()
b1 = torch.zeros(n_hidden, requires_grad=True)
W2 = (torch.randn(n_hidden, n_glyphs) * 0.1).requires_grad_()
b2 = torch.zeros(n_glyphs, requires_grad=True)
optimizer = torch.optim.SGD([W1, b1, W2, b2], lr=0.02, momentum=0.9)


def model(x):
    h = torch.tanh(x @ W1 + b1)
    return h @ W2 + b2


for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
