"""One trunk, two heads: estimate a dog's weight and name its breed from body measures."""

import torch
import torch.nn as nn

torch.manual_seed(233)

n_breeds, n_measures = 6, 10
build = torch.randn(n_breeds, n_measures)
heft = torch.linspace(-1.2, 1.2, n_breeds)


def dogs(n):
    breed = torch.randint(0, n_breeds, (n,))
    size = torch.randn(n)
    measures = build[breed] + 0.6 * size.unsqueeze(1) * build[breed].abs() + 0.7 * torch.randn(n, n_measures)
    weight = heft[breed] + 0.6 * size + 0.1 * torch.randn(n)
    return measures / 1.4, weight.unsqueeze(1), breed


class TwoHeads(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_measures, width), nn.ELU(), nn.Linear(width, width), nn.ELU())
        self.weight = nn.Linear(width, 1)
        self.breed = nn.Linear(width, n_breeds)

    def forward(self, x):
        h = self.trunk(x)
        return self.weight(h), self.breed(h)


model = TwoHeads()
squared, entropy = nn.MSELoss(), nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def losses(x, weight, breed):
    guess, logits = model(x)
    return squared(guess, weight), entropy(logits, breed)


for step in range(400):
    weight_loss, breed_loss = losses(*dogs(64))
    loss = weight_loss + 0.5 * breed_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  weight {weight_loss.item():.4f}  breed {breed_loss.item():.4f}")

model.eval()
with torch.no_grad():
    weight_loss, breed_loss = losses(*dogs(2000))
    print(f"final_loss {(weight_loss + 0.5 * breed_loss).item():.4f}")
