"""Name the speaker of a recording of any length from pooled frame statistics."""

import torch
import torch.nn.functional as F

torch.manual_seed(37)

n_speakers, n_bands, max_frames, width = 8, 6, 16, 48
tilt = torch.randn(n_speakers, n_bands)
spread = 0.5 + torch.rand(n_speakers, n_bands)


def recordings(n):
    speaker = torch.randint(0, n_speakers, (n,))
    frames = 0.5 * tilt[speaker][:, None] + spread[speaker][:, None] * torch.randn(n, max_frames, n_bands)
    length = torch.randint(1, max_frames + 1, (n, 1))
    present = (torch.arange(max_frames) < length).float()
    return frames, present.unsqueeze(2), speaker


w_frame = (torch.randn(n_bands, width) / n_bands**0.5).requires_grad_()
b_frame = torch.zeros(width, requires_grad=True)
w_hidden = (torch.randn(2 * width, width) / width**0.5).requires_grad_()
b_hidden = torch.zeros(width, requires_grad=True)
w_out = (0.05 * torch.randn(width, n_speakers)).requires_grad_()
b_out = torch.zeros(n_speakers, requires_grad=True)
weights = [w_frame, b_frame, w_hidden, b_hidden, w_out, b_out]


def pool(h, present):
    count = present.sum(1)
    mean = (h * present).sum(1) / count
    variance = ((h - mean.unsqueeze(1)).square() * present).sum(1) / count
    return torch.cat([mean, variance.sqrt()], dim=1)


def scores(frames, present):
    h = torch.tanh(frames @ w_frame + b_frame)
    h = torch.tanh(pool(h, present) @ w_hidden + b_hidden)
    return h @ w_out + b_out


lr, momentum = 0.02, 0.9
velocity = [torch.zeros_like(w) for w in weights]
for step in range(400):
    frames, present, speaker = recordings(48)
    loss = F.cross_entropy(scores(frames, present), speaker)
    for w in weights:
        w.grad = None
    loss.backward()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")
    if not all(w.grad.isfinite().all() for w in weights):
        continue
    with torch.no_grad():
        for w, v in zip(weights, velocity, strict=True):
            v.mul_(momentum).add_(w.grad)
            w.sub_(lr * v)

with torch.no_grad():
    frames, present, speaker = recordings(3000)
    print(f"final_loss {F.cross_entropy(scores(frames, present), speaker).item():.4f}")
