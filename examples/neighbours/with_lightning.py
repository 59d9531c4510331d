"""A Lightning module trained with a learning rate that is far too high: one callback says so, and ends the training."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unstuck.integrations.lightning import UnstuckCallback


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 3)

    def training_step(self, batch, _):
        x, y = batch
        return F.cross_entropy(self.head(torch.relu(self.body(x))), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1.0)


seed_everything(0, verbose=False)
x = torch.randn(2048, 20)
data = TensorDataset(x, x[:, :3].argmax(1))
trainer = Trainer(
    max_epochs=3,
    accelerator="cpu",
    logger=CSVLogger("logs"),
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[UnstuckCallback(stop_on_error=True)],
)
trainer.fit(Classifier(), DataLoader(data, batch_size=32, shuffle=True))
print(f"stopped after step {trainer.global_step}")
