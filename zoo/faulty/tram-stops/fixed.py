"""Announce the next stop of a tram whose line is a second-order walk over a town's stops."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(227)

n_stops, length, width = 10, 16, 32
table = F.softmax(2.0 * torch.randn(n_stops, n_stops, n_stops), dim=2)


def lines(n):
    walk = [torch.randint(0, n_stops, (n,)), torch.randint(0, n_stops, (n,))]
    for _ in range(length - 1):
        walk.append(torch.multinomial(table[walk[-2], walk[-1]], 1).squeeze(1))
    return torch.stack(walk, 1)


stop_table = (0.5 * torch.randn(n_stops, width)).requires_grad_()
place_table = (0.5 * torch.randn(length, width)).requires_grad_()
to_q, to_k, to_v, to_out = ((torch.randn(width, width) / width**0.5).requires_grad_() for _ in range(4))
widen = (torch.randn(width, 4 * width) * (2 / width) ** 0.5).requires_grad_()
narrow = (torch.randn(4 * width, width) / (4 * width) ** 0.5).requires_grad_()
to_stop = (0.3 * torch.randn(width, n_stops) / width**0.5).requires_grad_()
weights = [stop_table, place_table, to_q, to_k, to_v, to_out, widen, narrow, to_stop]


def predict(stops):
    t = stops.shape[1]
    x = stop_table[stops] + place_table[:t]
    h = F.layer_norm(x, (width,))
    scores = (h @ to_q) @ (h @ to_k).transpose(1, 2) / math.sqrt(width)
    visible = torch.ones(t, t).tril(diagonal=0).bool()
    shares = F.softmax(scores.masked_fill(~visible, float("-inf")), dim=2)
    x = x + shares @ (h @ to_v) @ to_out
    x = x + F.relu(F.layer_norm(x, (width,)) @ widen) @ narrow
    return F.layer_norm(x, (width,)) @ to_stop


optimizer = torch.optim.Adam(weights, lr=3e-3)
for step in range(300):
    walk = lines(32)
    stops, following = walk[:, :length], walk[:, 1 : length + 1]
    loss = F.cross_entropy(predict(stops).reshape(-1, n_stops), following.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():  # on the road the tram knows only the stops behind it
    walk = lines(1000)
    losses = [F.cross_entropy(predict(walk[:, :t])[:, -1], walk[:, t]) for t in range(2, length + 1, 2)]
    print(f"final_loss {sum(losses).item() / len(losses):.4f}")
