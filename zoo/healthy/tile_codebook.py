"""VQ-VAE: tiles of 16 x 16 as sixteen words of a codebook kept by moving averages."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(12)
np.random.seed(12)


def make_tiles(n):
    parts = np.zeros((6, 4, 4), dtype=np.float32)
    parts[1, :, 1:3] = 1
    parts[2, 1:3, :] = 1
    parts[3] = np.eye(4)
    parts[4] = np.eye(4)[::-1]
    parts[5, 1:3, 1:3] = 1
    kinds = np.random.randint(0, 6, (n, 4, 4))
    pictures = parts[kinds].transpose(0, 1, 3, 2, 4).reshape(n, 1, 16, 16)
    shade = np.random.uniform(0.7, 1.0, (n, 1, 1, 1))
    return torch.tensor(pictures * shade + 0.05 * np.random.randn(n, 1, 16, 16), dtype=torch.float32)


class VectorQuantizerEMA(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, commitment_cost, decay, epsilon=1e-5):
        super().__init__()
        self._embedding_dim = embedding_dim
        self._num_embeddings = num_embeddings
        self._commitment_cost = commitment_cost
        self._decay = decay
        self._epsilon = epsilon
        weight = torch.randn(num_embeddings, embedding_dim) * 0.3
        self.register_buffer("weight", weight)
        self.register_buffer("_ema_cluster_size", torch.ones(num_embeddings))
        self.register_buffer("_ema_w", weight.clone())

    def forward(self, inputs):
        inputs = inputs.permute(0, 2, 3, 1).contiguous()
        flat_input = inputs.view(-1, self._embedding_dim)
        distances = torch.cdist(flat_input, self.weight)
        encoding_indices = torch.argmin(distances, dim=1)
        encodings = F.one_hot(encoding_indices, self._num_embeddings).float()
        quantized = self.weight[encoding_indices].view(inputs.shape)

        if self.training:
            with torch.no_grad():
                self._ema_cluster_size.mul_(self._decay).add_(encodings.sum(0), alpha=1 - self._decay)
                n = self._ema_cluster_size.sum()
                smoothed = (self._ema_cluster_size + self._epsilon) / (n + self._num_embeddings * self._epsilon) * n
                self._ema_w.mul_(self._decay).add_(encodings.t() @ flat_input, alpha=1 - self._decay)
                self.weight.copy_(self._ema_w / smoothed.unsqueeze(1))

        loss = self._commitment_cost * F.mse_loss(quantized.detach(), inputs)
        quantized = inputs + (quantized - inputs).detach()
        avg_probs = encodings.mean(0)
        perplexity = torch.exp(-torch.sum(avg_probs * torch.log(avg_probs + 1e-10)))
        return loss, quantized.permute(0, 3, 1, 2).contiguous(), perplexity


class Model(nn.Module):
    def __init__(self, hidden=32, dim=16, num_embeddings=48):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, dim, 1),
        )
        self.vq = VectorQuantizerEMA(num_embeddings, dim, 0.25, 0.95)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        vq_loss, quantized, perplexity = self.vq(self.encoder(x))
        return vq_loss, self.decoder(quantized), perplexity


training_data = make_tiles(4000)
data_variance = training_data.var()
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=False)

model.train()
for i in range(400):
    data = training_data[torch.randint(0, len(training_data), (32,))]
    optimizer.zero_grad()
    vq_loss, data_recon, perplexity = model(data)
    recon_error = F.mse_loss(data_recon, data) / data_variance
    loss = recon_error + vq_loss
    loss.backward()
    optimizer.step()
    if (i + 1) % 50 == 0:
        print(f"{i + 1} iterations  recon_error: {recon_error.item():.3f}  perplexity: {perplexity.item():.1f}")

model.eval()
with torch.no_grad():
    data = make_tiles(500)
    _, recon, _ = model(data)
    print(f"final_loss {(F.mse_loss(recon, data) / data_variance).item():.4f}")
