"""Draw ``partitions.png``: how four partitioners split the digits among ten clients.

Run from the repository root: ``python docs/images/partitions.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qfl.conf.schema import DatasetConfig, PartitionConfig
from qfl.data import load_dataset, partition

CLIENTS, SEED = 10, 0
DARKEST = 120  # examples in a cell; one scale for all panels
SHOWN = {
    "iid": PartitionConfig(name="iid"),
    "dirichlet, alpha 0.5": PartitionConfig(name="dirichlet", alpha=0.5),
    "shards, 2 per client": PartitionConfig(name="shards", shards_per_client=2),
    "quantity, alpha 0.5": PartitionConfig(name="quantity", alpha=0.5),
}


def draw(path: Path) -> None:
    """One panel per partitioner: clients down, digits across, examples in each cell."""
    digits = load_dataset(DatasetConfig(name="digits"), SEED)
    figure = Figure(figsize=(11, 10), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, config) in zip(figure.subplots(2, 2).flat, SHOWN.items(), strict=True):
        parts = partition(config, digits, CLIENTS, SEED)
        counts = np.array([np.bincount(digits.train.y[part], minlength=10) for part in parts])
        # The square root keeps small counts visible beside large ones.
        axes.imshow(np.sqrt(counts), cmap="Blues", aspect="auto", vmin=0, vmax=np.sqrt(DARKEST))
        for client, digit in np.ndindex(counts.shape):
            if counts[client, digit]:
                colour = "white" if counts[client, digit] > DARKEST / 3 else "black"
                axes.text(
                    digit,
                    client,
                    str(counts[client, digit]),
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=10,
                )
        axes.set_title(title, fontsize=14)
        axes.set_xticks(range(10))
        axes.set_xlabel("digit", fontsize=12)
        labels = [f"{number}  (n={len(part)})" for number, part in enumerate(parts, start=1)]
        axes.set_yticks(range(CLIENTS), labels)
        axes.set_ylabel("client", fontsize=12)
        axes.tick_params(length=0, labelsize=11)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
