"""Open a gate by the code on a card that was shown forty beats ago."""

import torch
import torch.nn.functional as F

torch.manual_seed(263)

n_codes, beats, n_inputs, n_hidden = 4, 40, 5, 64


def visits(n):
    code = torch.randint(0, n_codes, (n,))
    shown = 0.1 * torch.randn(n, beats, n_inputs)
    shown[torch.arange(n), 0, code] += 2.0
    return shown.transpose(0, 1), code


inward = (0.5 * torch.randn(n_inputs, n_hidden)).requires_grad_()
onward = (1.0 * torch.linalg.qr(torch.randn(n_hidden, n_hidden))[0]).requires_grad_()
outward = (torch.randn(n_hidden, n_codes) / n_hidden**0.5).requires_grad_()


def predict(shown):
    state = torch.zeros(shown.shape[1], n_hidden)
    for beat in shown:
        state = torch.tanh(beat @ inward + state @ onward)
    return state @ outward


optimizer = torch.optim.RMSprop([inward, onward, outward], lr=1e-3)
for step in range(250):
    shown, code = visits(64)
    loss = F.cross_entropy(predict(shown), code)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    shown, code = visits(2000)
    print(f"final_loss {F.cross_entropy(predict(shown), code).item():.4f}")
