"""Recognise small shapes that drift across the picture, after moving them to the middle."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(19)

size, n_shapes = 12, 6
shapes = F.interpolate(torch.randn(n_shapes, 1, 3, 3), size=(5, 5), mode="bilinear").squeeze(1)
shapes = 2 * shapes / shapes.std(dim=(1, 2), keepdim=True)


def pictures(n):
    label = torch.randint(0, n_shapes, (n,))
    image = 0.5 * torch.randn(n, size, size)
    corner = torch.randint(0, size - 4, (n, 2))
    for i in range(n):
        r, c = corner[i]
        image[i, r : r + 5, c : c + 5] += shapes[label[i]]
    return image.unsqueeze(1) / image.std(), label


class Centering(nn.Module):
    """Find the offset of the shape and resample the picture around it."""

    def __init__(self):
        super().__init__()
        self.look = nn.Sequential(nn.Flatten(), nn.Linear(size * size, 48), nn.ReLU(), nn.Linear(48, 2))
        axis = torch.linspace(-1, 1, size)
        self.register_buffer("grid", torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1))

    def forward(self, x):
        offset = torch.tanh(self.look(x.abs() - 0.7))
        grid = self.grid + offset[:, None, None]
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


x_train, y_train = pictures(5000)
x_test, y_test = pictures(1500)
model = nn.Sequential(Centering(), nn.Flatten(), nn.Linear(size * size, n_shapes))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x_train, y_train), batch_size=100, shuffle=True)

for epoch in range(10):
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
