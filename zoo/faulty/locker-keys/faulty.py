"""Read from a wall of lockers the label of the one that a worn key fits."""

import torch
import torch.nn.functional as F

torch.manual_seed(211)

n_lockers, n_notches, n_labels, width = 32, 16, 6, 128


def walls(n):
    locks = torch.randn(n, n_lockers, n_notches)
    labels = torch.randint(0, n_labels, (n, n_lockers))
    fits = torch.randint(0, n_lockers, (n,))
    key = locks[torch.arange(n), fits] + 0.2 * torch.randn(n, n_notches)
    return locks, F.one_hot(labels, n_labels).float(), key, labels[torch.arange(n), fits]


def matrix(fan_in, fan_out, scale=1.0):
    return (scale * torch.randn(fan_in, fan_out) / fan_in**0.5).requires_grad_()


to_query, to_key = matrix(n_notches, width, scale=1.3), matrix(n_notches, width, scale=1.3)
to_value, to_label = matrix(n_labels, 32, scale=2.0), matrix(32, n_labels, scale=0.3)
weights = [to_query, to_key, to_value, to_label]


def predict(locks, labels, key):
    query = key[:, None, :] @ to_query
    scores = query @ (locks @ to_key).transpose(1, 2)
    share = torch.softmax(scores, dim=-1)
    return (share @ (labels @ to_value)).squeeze(1) @ to_label


optimizer = torch.optim.Adam(weights, lr=3e-3)
for step in range(500):
    locks, labels, key, target = walls(64)
    loss = F.cross_entropy(predict(locks, labels, key), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    locks, labels, key, target = walls(2000)
    print(f"final_loss {F.cross_entropy(predict(locks, labels, key), target).item():.4f}")
