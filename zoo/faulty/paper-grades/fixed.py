"""Paper mill: brightness, strength and gloss of a sheet from 20 process readings."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Sheets(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        law = torch.Generator().manual_seed(1000)
        a = torch.randn(20, 10, generator=law) / 20**0.5
        b = torch.randn(10, 3, generator=law) / 10**0.5
        self.x = torch.randn(n, 20, generator=g)
        y = torch.sin(1.2 * self.x @ a) @ b * 1.6
        self.y = y + 0.1 * torch.randn(n, 3, generator=g)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def main():
    torch.manual_seed(0)
    learning_rate = 0.1
    num_epochs = 6
    train_loader = DataLoader(Sheets(4000, seed=1), batch_size=50, shuffle=True)
    test_loader = DataLoader(Sheets(2000, seed=2), batch_size=500)

    model = nn.Sequential(
        nn.Linear(20, 100),
        nn.SiLU(),
        nn.Linear(100, 100),
        nn.SiLU(),
        nn.Linear(100, 3),
    )
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)

    for epoch in range(num_epochs):
        model.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(f"Epoch {epoch + 1}/{num_epochs}, loss {running_loss / len(train_loader):.4f}")

    model.eval()
    with torch.no_grad():
        losses = [criterion(model(inputs), labels).item() for inputs, labels in test_loader]
    print(f"final_loss {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
