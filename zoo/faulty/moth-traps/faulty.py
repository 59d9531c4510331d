"""Tell the weather of a night from the moths that were found in a trap, none of them on some nights."""

import torch
import torch.nn.functional as F

torch.manual_seed(233)

n_weathers, most, n_features, width = 4, 9, 6, 48
moths = torch.randn(n_weathers, n_features)


def nights(n):
    weather = torch.randint(0, n_weathers, (n,))
    found = torch.randint(0, most + 1, (n,))
    catch = moths[weather][:, None, :] + 1.3 * torch.randn(n, most, n_features)
    present = torch.arange(most) < found[:, None]
    return catch * present[:, :, None], present, weather


def layer(fan_in, fan_out, gain=1.0):
    weight = gain * torch.randn(fan_out, fan_in) / fan_in**0.5
    return weight.requires_grad_(), torch.zeros(fan_out, requires_grad=True)


encode, score, classify = layer(n_features, width, 5 / 3), layer(width, 1, 0.5), layer(width, n_weathers, 0.3)


def predict(catch, present):
    h = torch.tanh(F.linear(catch, *encode))
    scores = F.linear(h, *score).squeeze(2)
    shares = F.softmax(scores.masked_fill(~present, float("-inf")), dim=1)
    return F.linear(torch.einsum("nm,nmw->nw", shares, h), *classify)


optimizer = torch.optim.SGD([*encode, *score, *classify], lr=0.02, momentum=0.9)
for step in range(500):
    catch, present, weather = nights(64)
    loss = F.cross_entropy(predict(catch, present), weather)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    catch, present, weather = nights(4000)
    print(f"final_loss {F.cross_entropy(predict(catch, present), weather).item():.4f}")
