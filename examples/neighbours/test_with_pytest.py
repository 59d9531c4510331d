"""Tests of networks, run by `pytest --unstuck-report reports`; the second one fails, and says why."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
BATCH = torch.randn(64, 20), torch.randint(0, 3, (64,))


def test_a_network_is_ready_to_train(trainable):
    trainable(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3)), BATCH, F.cross_entropy, steps=50)


def test_one_with_an_overconfident_start(trainable):
    head = nn.Linear(64, 3)
    nn.init.normal_(head.weight, std=3.0)
    trainable(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), head), BATCH, F.cross_entropy)
