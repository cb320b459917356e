"""The model, the data of one hospital, and local training."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Thirty measurements in, benign or malignant out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def load_data(partition_id: int, num_partitions: int) -> tuple[TensorDataset, TensorDataset]:
    """One hospital's patients, four fifths for training; every hospital has equally many."""
    x, y = (torch.tensor(part) for part in load_breast_cancer(return_X_y=True))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    share = len(y) // num_partitions
    own = order[partition_id * share : (partition_id + 1) * share]
    x, y = x[own].float(), y[own].long()
    cut = len(y) * 4 // 5
    x = (x - x[:cut].mean(dim=0)) / x[:cut].std(dim=0)
    return TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])


def train(net: nn.Module, data: TensorDataset, epochs: int, lr: float, seed: int) -> float:
    """Train in place and return the mean loss."""
    loss_of, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=lr)
    # Clients may share a process in a simulation, and with it torch's global generator.
    shuffle = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(epochs):
        for x, y in DataLoader(data, batch_size=16, shuffle=True, generator=shuffle):
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
    return total / (epochs * len(data))


def test(net: nn.Module, data: TensorDataset) -> float:
    """Share of patients classified rightly."""
    x, y = data.tensors
    with torch.no_grad():
        return float((net(x).argmax(dim=1) == y).float().mean())
