"""Inverse problem: muscle activations from joint angles of a leg. Follows the tutorial, only deeper."""

import numpy as np
import torch
import torch.nn as nn

np.random.seed(3)
torch.manual_seed(3)

# create the data set
W_true = np.random.randn(8, 12) / np.sqrt(8)


def create_data(n_samples):
    angles = np.random.uniform(-1.7, 1.7, size=(n_samples, 8))
    hidden = np.tanh(angles @ W_true)
    muscles = np.stack([hidden[:, :6].sum(1), hidden[:, 6] * hidden[:, 7] * 2, hidden[:, 8:].sum(1)], axis=1)
    muscles = muscles + 0.05 * np.random.randn(*muscles.shape)
    return torch.FloatTensor(angles), torch.FloatTensor(muscles)


X_train, y_train = create_data(4000)
X_test, y_test = create_data(1500)


class FeedForward(nn.Module):
    def __init__(self, input_dim, hidden_dim, output_dim, num_layers):
        super().__init__()
        self.input_layer = nn.Linear(input_dim, hidden_dim)
        self.hidden_layers = nn.ModuleList([nn.Linear(hidden_dim, hidden_dim) for _ in range(num_layers - 1)])
        self.output_layer = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        x = torch.sigmoid(self.input_layer(x))
        for layer in self.hidden_layers:
            x = torch.sigmoid(layer(x))
        return self.output_layer(x)


model = FeedForward(8, 64, 3, num_layers=8)
for name, p in model.named_parameters():
    if "bias" not in name:
        nn.init.kaiming_uniform_(p, nonlinearity="relu")
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
criterion = nn.MSELoss()

num_steps, batch_size = 400, 64
for step in range(num_steps):
    idx = np.random.choice(len(X_train), batch_size, replace=False)
    y_pred = model(X_train[idx])
    loss = criterion(y_pred, y_train[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 100 == 0:
        print(f"Step [{step + 1}/{num_steps}], Loss: {loss.item():.4f}")

model.eval()
with torch.no_grad():
    test_loss = criterion(model(X_test), y_test)
print(f"final_loss {test_loss.item():.4f}")
