"""Fill in the hidden pixels of small plaid images."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(21)

size = 12


def make_images(n):
    grid = torch.arange(size).float()
    rows = torch.sin(grid * (0.5 + 0.7 * torch.rand(n, 1)) + 6.28 * torch.rand(n, 1))
    cols = torch.sin(grid * (0.5 + 0.7 * torch.rand(n, 1)) + 6.28 * torch.rand(n, 1))
    return (rows[:, :, None] + cols[:, None, :] + 0.1 * torch.randn(n, size, size))[:, None]


class Inpainter(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, channels, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, channels, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(channels, 1, 5, padding=2),
        )

    def forward(self, images, mask):
        return images + self.body(torch.cat([images, mask], dim=1))


class Trainer:
    def __init__(self, model, images, lr=3e-3, batch_size=32):
        self.model = model
        self.images = images
        self.batch_size = batch_size
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)

    @staticmethod
    def draw_mask(images):
        return (torch.rand_like(images) < 0.5).float()

    def step(self):
        images = self.images[torch.randint(0, len(self.images), (self.batch_size,))]
        mask = self.draw_mask(images)
        restored = self.model(images, mask)
        loss = F.mse_loss(restored[mask == 0], images[mask == 0])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, steps):
        self.model.train()
        for step in range(steps):
            loss = self.step()
            if step % 50 == 0:
                print(f"step {step:4d}  loss {loss:.4f}")

    @torch.no_grad()
    def evaluate(self, images):
        self.model.eval()
        mask = self.draw_mask(images)
        restored = self.model(images * mask, mask)
        return F.mse_loss(restored[mask == 0], images[mask == 0]).item()


images = make_images(3000)
images = (images - images.mean()) / images.std()
trainer = Trainer(Inpainter(), images[:2600])
trainer.fit(steps=300)
print(f"final_loss {trainer.evaluate(images[2600:]):.4f}")
