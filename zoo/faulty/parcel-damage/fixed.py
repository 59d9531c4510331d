"""Multi-label: what happened to a parcel (dropped, wet, crushed, opened, late), from its accelerometer log."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Config:
    channels: int = 3
    length: int = 40
    labels: int = 5
    width: int = 24
    batch: int = 64
    steps: int = 320
    lr: float = 2e-3
    seed: int = 314


def make_batch(cfg: Config, n: int, bumps: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    happened = (torch.rand(n, cfg.labels, generator=gen) < 0.3).float()
    log = 0.7 * torch.randn(n, cfg.channels, cfg.length, generator=gen)
    for k in range(cfg.labels):
        start = torch.randint(0, cfg.length - bumps.shape[-1], (n,), generator=gen)
        for i in torch.nonzero(happened[:, k])[:, 0].tolist():
            s = int(start[i])
            log[i, :, s : s + bumps.shape[-1]] += bumps[k]
    return log, happened


class LogNet(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(cfg.channels, cfg.width, 7, padding=3),
            nn.BatchNorm1d(cfg.width),
            nn.ReLU(),
            nn.Conv1d(cfg.width, cfg.width, 5, padding=2),
            nn.BatchNorm1d(cfg.width),
            nn.ReLU(),
        )
        self.head = nn.Linear(cfg.width, cfg.labels)

    def forward(self, log: Tensor) -> Tensor:
        features = self.body(log).amax(dim=2)
        return self.head(features)


def main(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    gen = torch.Generator().manual_seed(cfg.seed)
    bumps = 1.3 * torch.randn(cfg.labels, cfg.channels, 8, generator=gen)
    model = LogNet(cfg)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4 * cfg.lr, total_steps=cfg.steps)
    for step in range(cfg.steps):
        log, happened = make_batch(cfg, cfg.batch, bumps, gen)
        prediction = model(log)
        loss = criterion(prediction, happened)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 64 == 0:
            print(f"step={step} bce={loss.item():.4f}")
    model.eval()
    with torch.inference_mode():
        log, happened = make_batch(cfg, 1000, bumps, gen)
        print(f"final_loss {criterion(model(log), happened).item():.4f}")


if __name__ == "__main__":
    main(Config())
