"""wav2vec 2.0 hears raw sound and lists the bird calls in it; where they begin is not given (CTC)."""

import math

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

torch.manual_seed(423)

n_calls, slots, slot = 4, 4, 80
pitches = torch.tensor([0.06, 0.11, 0.19, 0.3])


def recordings(n):
    """One to four calls each; a slot without a call is noise."""
    heard = torch.rand(n, slots) < 0.6
    heard[:, 0] |= ~heard.any(1)
    call = torch.randint(0, n_calls, (n, slots))
    time = torch.arange(slot).float()
    phase = 2 * math.pi * (pitches[call].unsqueeze(2) * time + torch.rand(n, slots, 1))
    sound = heard.unsqueeze(2) * torch.sin(phase) * torch.sin(math.pi * time / slot)
    sound = sound.flatten(1) + 0.1 * torch.randn(n, slots * slot)
    sound = (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True)
    order = (~heard).long().argsort(dim=1, stable=True)
    labels = torch.where(heard, 1 + call, -100).gather(1, order)
    return sound, labels


config = Wav2Vec2Config(
    vocab_size=1 + n_calls,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    conv_dim=[32, 32, 32],
    conv_stride=[4, 2, 2],
    conv_kernel=[10, 4, 4],
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=4,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    apply_spec_augment=False,
    hidden_dropout=0.0,
    activation_dropout=0.0,
    attention_dropout=0.0,
    final_dropout=0.0,
    layerdrop=0.0,
    ctc_loss_reduction="mean",
    pad_token_id=0,
)
model = Wav2Vec2ForCTC(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=50)

model.train()
for step in range(400):
    sound, labels = recordings(24)
    loss = model(input_values=sound, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    sound, labels = recordings(300)
    print(f"final_loss {model(input_values=sound, labels=labels).loss.item():.4f}")
