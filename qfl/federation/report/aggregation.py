"""The section of the page on aggregation: what was protected how, and who opened what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from qfl.federation.report import markup
from qfl.federation.report.files import is_number
from qfl.federation.report.reading import Run
from qfl.federation.report.units import number_text
from qfl.federation.report.wording import config_part

SCHEMES = {
    "plain": "no protection",
    "ckks": "CKKS ciphertexts, which the server adds",
    "packed": "exact integers packed in ciphertexts, which the server adds",
    "hybrid": "masks from a short key of each client; only the keys' sum is opened; experimental",
    "masking": "pairwise masks, which cancel in the sum",
}
TRUSTS = {
    "key_holder": "one node holds the key",
    "committee": "members hold shares of the key and open together",
    "shared": "every client holds the key, the server does not",
    "none": "nobody holds a key",
}
RELEASES = {
    "server": "the server learns the opened sums and the model",
    "clients": "the model stays with the clients",
}
LABELS = {
    "count": "count of examples",
    "moments": "moments for scaling",
    "sensitivity": "sensitivities of the parameters",
}


def aggregation(run: Run) -> str:
    """How updates were summed; empty where that is not on record."""
    about = run.summary["aggregation"]
    if not about.get("scheme"):
        return ""
    rows = [
        ("Scheme", explained(about.get("scheme"), SCHEMES)),
        ("Trust", explained(about.get("trust"), TRUSTS)),
        ("Release", explained(about.get("release"), RELEASES)),
        ("Opened by", str(about.get("opened_by") or "")),
        ("Assumption", str(about.get("assumption") or "")),
        ("Parameters in the clear", _in_clear(run)),
        ("Grid step", _grid(run)),
        ("Largest rounding error", _rounding(run)),
        ("Sums opened", "; ".join(_openings(run))),
        ("Opened again", _repeated(run)),
    ]
    return markup.section("Aggregation", markup.facts(rows))


def explained(name: object, meanings: dict[str, str]) -> str:
    """A name and what it means, where that is known; empty without a name."""
    if not name:
        return ""
    shown = str(name).replace("_", " ")
    return f"{shown}: {meanings[str(name)]}" if str(name) in meanings else shown


def _in_clear(run: Run) -> str:
    count, total = (
        run.summary["aggregation"].get("parameters_in_clear"),
        run.summary["model"].get("parameters"),
    )
    if count is None:
        return ""
    if not count:
        return "none"
    if not total:
        return number_text(count)
    share = "all" if count == total else f"{100 * count / total:.1f} %"
    return f"{number_text(count)} of {number_text(total)} ({share})"


def _grid(run: Run) -> str:
    strategy = config_part(run.config, "strategy")
    bits, rounding = strategy.get("grid_bits"), strategy.get("rounding")
    if not isinstance(bits, int) or not 0 < bits <= 52:
        return ""
    how = f", {rounding} rounding" if rounding else ""
    return f"2^-{bits} = {2.0**-bits:.3g}{how}"


def _rounding(run: Run) -> str:
    error = run.summary["aggregation"].get("max_abs_error")
    if run.blind:
        return "not known here: only those who keep the model learn the mean"
    if error is None:
        return ""
    return f"{number_text(error)} in any coordinate of an opened mean"


def _openings(run: Run) -> Iterator[str]:
    """For each label how many sums were opened, and of how many contributions each."""
    found: dict[str, list[float]] = {}
    for _, label, contributions in _opened(run):
        found.setdefault(label, []).append(contributions)
    for label, counts in found.items():
        low, high = min(counts), max(counts)
        of = number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"
        sums = f"{len(counts)} sum{'' if len(counts) == 1 else 's'}"
        each = "" if len(counts) == 1 else " each"
        yield f"{LABELS.get(label, label)}: {sums} of {of} contributions{each}"


def _repeated(run: Run) -> str:
    """Rounds whose sum was opened more than once, as after a crash: two sums may differ."""
    times = Counter((step, label) for step, label, _ in _opened(run) if step)
    again = [f"round {step} ({label})" for (step, label), count in times.items() if count > 1]
    more = f" and {len(again) - 10} more" if len(again) > 10 else ""
    return ", ".join(again[:10]) + more


def _opened(run: Run) -> Iterator[tuple[int, str, float]]:
    """Round, label and contributions of every opened sum on record."""
    for event in run.audit:
        if event["event"] != "sum_opened":
            continue
        count, step = event.get("contributions", event.get("updates")), event.get("round")
        if count is not None and is_number(count) and isinstance(step, int):
            yield step, str(event.get("label", "train")), float(count)
