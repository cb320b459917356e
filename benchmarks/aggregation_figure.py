"""One figure: time of each role, and bytes up, over the number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aggregation_measure import Measured
from aggregation_ours import BY_NAME
from aggregation_round import Figures

# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers differ too.
COLOURS = {
    "plain": ("#000000", "."),
    "ckks": ("#0072B2", "o"),
    "ckks fine": ("#56B4E9", "v"),
    "packed": ("#009E73", "s"),
    "hybrid": ("#D55E00", "D"),
    "masking": ("#CC79A7", "X"),
    "NVFlare": ("#999999", "^"),
    "Paillier (phe)": ("#E69F00", "P"),
}
# Of one colour: dashes tell who opens.
DASHES = {"shared": (0, (4, 2)), "committee": (0, (1, 1.5))}
PANELS = ("protect: one client, ms", "server: all clients, ms", "open, ms", "up, bytes a parameter")


def draw(results: Sequence[Measured], paths: Sequence[Path]) -> None:
    """Draw into every path; the ending says in which format."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "aggregation"
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    # Of one length the first: the next splits the same parameters otherwise.
    chosen: dict[int, Measured] = {}
    for measured in results:
        chosen.setdefault(measured.case.length, measured)
    sizes = sorted(chosen)
    names = list(dict.fromkeys(name for size in sizes for name in chosen[size].figures))
    figure, panels = plt.subplots(2, 2, figsize=(10, 8.6), sharex=True)
    drawn = {}
    for place, (panel, title) in enumerate(zip(panels.flat, PANELS, strict=True)):
        for name in names:
            scheme, _, trust = name.partition(", ")
            colour, marker = COLOURS[scheme]
            points = [
                (size, _values(chosen[size].figures[name], size)[place])
                for size in sizes
                if name in chosen[size].figures
            ]
            (drawn[name],) = panel.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                markersize=5.5,
                linewidth=1.8 if name in BY_NAME else 1.4,
                linestyle=DASHES.get(trust, "solid"),
                zorder=3 if name in BY_NAME else 2,
            )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(sizes)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        panel.grid(which="major", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(title, fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("parameters")
    figure.legend(
        [drawn[name] for name in names],
        names,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
        handlelength=3,
    )
    clients = results[0].case.clients
    figure.suptitle(f"A secure sum of {clients} updates, one core", fontsize=11)
    figure.set_layout_engine("constrained")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a date the same figures give the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=150, facecolor="white", metadata=metadata)
    plt.close(figure)


def _values(found: Figures, length: int) -> tuple[float, float, float, float]:
    return found.protect_ms, found.server_ms, found.open_ms, found.up_bytes / length


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _count(value: float) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,.0f}"
