"""Denoising autoencoder: clean up noisy postage-stamp pictures (convolutions down, transposed convolutions up)."""

import torch
from torch import nn

torch.manual_seed(77)

num_epochs = 6
batch_size = 50
learning_rate = 1e-3
noise_factor = 0.4


def stamps(n, size=16):
    img = torch.zeros(n, 1, size, size)
    for i in range(n):
        img[i, 0, 1:-1, 1:-1] = 0.25
        for _ in range(int(torch.randint(2, 5, (1,)))):
            x, y, w, h = torch.randint(2, 9, (4,)).tolist()
            img[i, 0, y : min(y + h, size - 2), x : min(x + w, size - 2)] = float(0.4 + 0.6 * torch.rand(1))
    return img


train_dataset = stamps(2500)
valid_dataset = stamps(400)
loader = torch.utils.data.DataLoader(train_dataset, batch_size=batch_size, shuffle=True)


def add_noise(img):
    noisy = img + torch.randn_like(img) * noise_factor
    return noisy.clamp(0.0, 1.0)


class ConvDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        ## encoder layers ##
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        ## decoder layers ##
        self.t_conv1 = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.t_conv2 = nn.ConvTranspose2d(16, 32, 2, stride=2)
        self.conv_out = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.t_conv1(x))
        x = torch.relu(self.t_conv2(x))
        return torch.sigmoid(self.conv_out(x))


model = ConvDenoiser()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=1e-5)

for epoch in range(num_epochs):
    train_loss = 0.0
    for images in loader:
        optimizer.zero_grad()
        outputs = model(add_noise(images))
        loss = criterion(outputs, images)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * images.size(0)
    print(f"epoch [{epoch + 1}/{num_epochs}], loss:{train_loss / len(train_dataset):.4f}")

model.eval()
with torch.no_grad():
    noisy = add_noise(valid_dataset)
    print(f"noisy picture {criterion(noisy, valid_dataset).item():.4f}")
    print(f"mean picture {criterion(train_dataset.mean(0).expand_as(valid_dataset), valid_dataset).item():.4f}")
    print(f"final_loss {criterion(model(noisy), valid_dataset).item():.4f}")
