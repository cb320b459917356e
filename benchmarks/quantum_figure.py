"""One figure: time of a step over the number of wires, a panel for each batch and depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantum_measure import Measured

# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers differ too.
LOOKS = {
    "kernel": ("#D55E00", "o", "qfl, kernel"),
    "torch engine": ("#E69F00", "s", "qfl, torch engine"),
    "TorchLayer": ("#0072B2", "^", "PennyLane TorchLayer, default.qubit"),
    "lightning adjoint": ("#56B4E9", "v", "PennyLane lightning.qubit, adjoint"),
    "TorchQuantum": ("#999999", "P", "TorchQuantum"),
    "PennyLane jax.jit": ("#009E73", "D", "PennyLane, jax.jit"),
    "TensorCircuit jax.jit": ("#CC79A7", "X", "TensorCircuit-NG, jax.jit"),
}


def draw(results: Sequence[Measured], paths: Sequence[Path]) -> None:
    """Draw into every path; the ending says in which format."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "quantum layers"
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    depths = sorted({found.case.depth for found in results})
    batches = sorted({found.case.batch for found in results})
    sizes = sorted({found.case.n for found in results})
    figure, panels = plt.subplots(
        len(depths),
        len(batches),
        figsize=(1 + 3.4 * max(2, len(batches)), 1.2 + 3.1 * len(depths)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    drawn = {}
    for panel_row, depth in zip(panels, depths, strict=True):
        for panel, batch in zip(panel_row, batches, strict=True):
            chosen = [f for f in results if (f.case.depth, f.case.batch) == (depth, batch)]
            for name, (colour, marker, label) in LOOKS.items():
                points = [(f.case.n, f.ms[name]) for f in chosen if name in f.ms]
                if not points:
                    continue
                ours = label.startswith("qfl")
                (drawn[label],) = panel.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    marker=marker,
                    markersize=5.5,
                    linewidth=2.4 if ours else 1.3,
                    zorder=3 if ours else 2,
                )
            panel.set_yscale("log")
            panel.set_xticks(sizes)
            panel.grid(which="major", color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_title(f"batch {batch}, depth {depth}", fontsize=10)
            panel.yaxis.set_major_formatter(FuncFormatter(_milliseconds))
    for panel in panels[-1]:
        panel.set_xlabel("wires")
    for panel_row in panels:
        panel_row[0].set_ylabel("forward + backward, ms")
    names = [label for _, _, label in LOOKS.values() if label in drawn]
    figure.legend(
        [drawn[name] for name in names],
        names,
        loc="outside lower center",
        ncols=3 if len(batches) > 2 else 2,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle("A training step of a quantum layer, one core, single precision", fontsize=11)
    figure.set_layout_engine("constrained")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same figures give the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, facecolor="white", metadata=metadata)
    plt.close(figure)


def _milliseconds(value: float, _position: int) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
