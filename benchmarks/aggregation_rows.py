"""What the figures are held against: targets, and rows for the result file."""

from __future__ import annotations

from aggregation_measure import Measured
from aggregation_ours import BY_NAME
from aggregation_round import Figures
from aggregation_sum import Ours
from common import Row

PEER = "NVFlare"
FLOAT32 = 4.0
METRICS = ("bytes up", "protect", "server", "open")
MILLION = 1_000_000
PAGE = 4096  # less memory than that is not seen

# (parameters, trust, scheme): times better than NVFlare, in the order of METRICS.
TARGETS: dict[tuple[int, str, str], tuple[float, ...]] = {
    (200, "key_holder", "ckks"): (100, 20, 1000, 500),
    (MILLION, "key_holder", "ckks"): (2.6, 0.9, 8, 3),
    (MILLION, "key_holder", "packed"): (7, 4, 12, 5),
    (MILLION, "key_holder", "hybrid"): (16, 30, 400, 40),
    (MILLION, "shared", "ckks"): (5, 1.8, 5, 3),
    (MILLION, "shared", "packed"): (12, 7, 12, 5),
    (MILLION, "shared", "hybrid"): (16, 30, 400, 40),
}
# Largest error of a mean.
ERRORS = {"ckks": 2.0**-20, "hybrid": 1e-7}
HYBRID_BYTES = 1.02  # times float32, at a million

Judged = tuple[Row, bool | None]  # None: there is no target


def values(figures: Figures, length: int) -> dict[str, tuple[str, float]]:
    """Unit and value of every metric that is held against the peer's."""
    return {
        "bytes up": ("B/parameter", figures.up_bytes / length),
        "protect": ("ms", figures.protect_ms),
        "server": ("ms", figures.server_ms),
        "open": ("ms", figures.open_ms),
        "bytes down": ("B/parameter", figures.down_bytes / length),
    }


def rows_of(measured: Measured) -> list[Judged]:
    """Each of our schemes beside the peer, beside float32 in the clear, and its error."""
    judged: list[Judged] = []
    for name, figures in measured.figures.items():
        if name in BY_NAME:
            ours = BY_NAME[name]
            judged += _beside_peer(measured, ours, figures)
            judged += _beside_plain(measured, ours, figures)
            judged.append(_error(measured, ours, figures))
            judged += _memory(measured, ours)
    return judged


def _beside_peer(measured: Measured, ours: Ours, figures: Figures) -> list[Judged]:
    case, judged = measured.case, []
    wanted = dict(
        zip(METRICS, TARGETS.get((case.length, ours.trust, ours.scheme), ()), strict=False)
    )
    if case.clients != 10:
        wanted = {}
    peer = measured.figures.get(PEER)
    beside = values(peer, case.length) if peer else {}
    for metric, (unit, value) in values(figures, case.length).items():
        judged.append(
            _judged(f"{case}: {ours}", metric, unit, value, PEER, beside, wanted.get(metric))
        )
    contexts = measured.more.get(PEER, {}).get("open_ms with contexts")
    if contexts is not None:
        other = {"open": ("ms", contexts)}
        peer_name = f"{PEER}, sums with contexts"
        judged.append(
            _judged(
                f"{case}: {ours}",
                "open",
                "ms",
                figures.open_ms,
                peer_name,
                other,
                wanted.get("open"),
            )
        )
    return judged


def _judged(
    case: str,
    metric: str,
    unit: str,
    value: float,
    peer: str,
    beside: dict[str, tuple[str, float]],
    least: float | None,
) -> Judged:
    if metric not in beside:
        return Row(case, metric, unit, value, "", None, ""), None
    theirs = beside[metric][1]
    target = "" if least is None else f">= {least:g}x"
    row = Row(case, metric, unit, value, peer, theirs, target)
    return row, None if least is None else theirs >= least * value


def _beside_plain(measured: Measured, ours: Ours, figures: Figures) -> list[Judged]:
    case, judged = measured.case, []
    up = figures.up_bytes / case.length
    held = (ours.scheme, case.length) == ("hybrid", MILLION)
    row = Row(
        f"{case}: {ours}",
        "bytes up",
        "B/parameter",
        up,
        "float32",
        FLOAT32,
        f"at most {HYBRID_BYTES}x float32; is {up / FLOAT32:.4g}x" if held else "",
    )
    judged.append((row, up <= HYBRID_BYTES * FLOAT32 if held else None))
    plain = measured.figures.get("plain")
    if plain is not None and ours.scheme != "plain":
        beside = values(plain, case.length)
        for metric in ("protect", "server", "open"):
            unit, value = values(figures, case.length)[metric]
            judged.append(_judged(f"{case}: {ours}", metric, unit, value, "plain", beside, None))
    return judged


def _error(measured: Measured, ours: Ours, figures: Figures) -> Judged:
    limit = ERRORS.get(ours.scheme)
    words = "" if limit is None else f"<= {limit:.3g}"
    if ours.scheme == "packed":
        # An update that weighs 1 / clients is rounded to multiples of so much.
        limit = measured.case.clients * 2.0**-ours.grid_bits
        words = f"<= an update's step, {limit:.3g}"
    peer = measured.figures.get(PEER)
    row = Row(
        f"{measured.case}: {ours}",
        "error of the mean",
        "",
        figures.error,
        PEER if peer else "",
        peer.error if peer else None,
        words,
    )
    return row, None if limit is None else figures.error <= limit


def _memory(measured: Measured, ours: Ours) -> list[Judged]:
    mine, theirs = measured.memory.get(str(ours), {}), measured.memory.get(PEER, {})
    judged: list[Judged] = []
    for role, held in mine.items():
        size, peer = max(held, PAGE), theirs.get(role)
        row = Row(
            f"{measured.case}: {ours}",
            f"memory, {role}",
            "MB",
            size / 1e6,
            PEER if peer else "",
            peer / 1e6 if peer else None,
            "",
        )
        judged.append((row, None))
    return judged
