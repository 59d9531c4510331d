"""Genre classifier on short synthetic clips, 1-D convolutions with dropout, label smoothing."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    n_genres: int = 6
    length: int = 512
    n_train: int = 3000
    n_val: int = 600
    batch_size: int = 64
    epochs: int = 6
    lr: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    smoothing: float = 0.05
    seed: int = 2024


cfg = Config()
torch.manual_seed(cfg.seed)

# each genre: (tempo of the beat, base pitch, strength of the second harmonic, noise of the drum)
STYLE = torch.tensor(
    [
        [4.0, 20.0, 0.2, 0.8],
        [8.0, 24.0, 0.6, 0.4],
        [4.0, 40.0, 0.8, 0.2],
        [6.0, 32.0, 0.1, 0.6],
        [8.0, 48.0, 0.3, 0.9],
        [3.0, 28.0, 0.9, 0.1],
    ]
)


def synth(n):
    y = torch.randint(0, cfg.n_genres, (n,))
    tempo, pitch, second, drum = (STYLE[y] * (1 + 0.08 * torch.randn(n, 4))).T.unsqueeze(-1)
    t = torch.linspace(0, 1, cfg.length)
    phase = 2 * torch.pi * torch.rand(n, 2, 1)
    beat = (torch.sin(2 * torch.pi * tempo * t + phase[:, 0]) > 0.7).float()
    melody = torch.sin(2 * torch.pi * pitch * t + phase[:, 1])
    melody = melody + second * torch.sin(4 * torch.pi * pitch * t + phase[:, 1])
    wave = melody + drum * beat * torch.randn(n, cfg.length) * 2 + 0.3 * torch.randn(n, cfg.length)
    wave = wave / wave.abs().amax(1, keepdim=True)
    return wave.unsqueeze(1), y


class ConvBlock(nn.Module):
    def __init__(self, c_in, c_out, k, stride):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, k, stride, padding=k // 2)
        self.norm = nn.BatchNorm1d(c_out)
        self.act = nn.GELU()
        self.drop = nn.Dropout(cfg.dropout)

    def forward(self, x):
        return self.drop(self.act(self.norm(self.conv(x))))


class GenreNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(ConvBlock(1, 16, 15, 4), ConvBlock(16, 32, 7, 4), ConvBlock(32, 64, 5, 2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, cfg.n_genres))

    def forward(self, x):
        return self.head(self.encoder(x))


class Trainer:
    def __init__(self, model):
        self.model = model
        self.opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.loss_fn = nn.CrossEntropyLoss(label_smoothing=cfg.smoothing)

    def fit(self, x, y):
        self.model.train()
        order = torch.randperm(len(x))
        running = 0.0
        batches = order.split(cfg.batch_size)
        for idx in batches:
            self.opt.zero_grad()
            loss = self.loss_fn(self.model(x[idx]), y[idx])
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.opt.step()
            running += loss.item()
        return running / len(batches)

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        logits = self.model(x)
        return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main():
    train, val = synth(cfg.n_train), synth(cfg.n_val)
    trainer = Trainer(GenreNet())
    for epoch in range(cfg.epochs):
        loss = trainer.fit(*train)
        val_loss, acc = trainer.evaluate(*val)
        print(f"epoch {epoch:02d} | train {loss:.3f} | val {val_loss:.3f} | acc {acc:.3f}")
    print(f"final_loss {val_loss:.4f}")


if __name__ == "__main__":
    main()
