"""Whisper writes down which four tones it hears in a noisy spectrogram."""

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

torch.manual_seed(422)

n_bands, n_frames, n_tones, n_heard = 8, 32, 6, 4
pad, begin, end, first = 0, 1, 2, 3


def recordings(n):
    tones = torch.randint(0, n_tones, (n, n_heard))
    centre = 1 + tones.repeat_interleave(n_frames // n_heard, 1).unsqueeze(1)
    bands = torch.arange(n_bands).view(1, n_bands, 1)
    spectrogram = 2.5 * torch.exp(-0.7 * (bands - centre) ** 2) - 0.7 + 0.5 * torch.randn(n, n_bands, n_frames)
    return spectrogram, torch.cat([first + tones, torch.full((n, 1), end)], 1)


config = WhisperConfig(
    vocab_size=first + n_tones,
    num_mel_bins=n_bands,
    d_model=48,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=96,
    decoder_ffn_dim=96,
    max_source_positions=n_frames // 2,
    max_target_positions=8,
    pad_token_id=pad,
    bos_token_id=begin,
    eos_token_id=end,
    decoder_start_token_id=begin,
    suppress_tokens=None,
    begin_suppress_tokens=None,
)
model = WhisperForConditionalGeneration(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=50)

model.train()
for step in range(350):
    sound, tones = recordings(32)
    loss = model(input_features=sound, labels=tones).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    sound, tones = recordings(500)
    print(f"final_loss {model(input_features=sound, labels=tones).loss.item():.4f}")
