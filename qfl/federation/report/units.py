"""Numbers as people read them: bytes, seconds, shares, metrics."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def bytes_text(count: float) -> str:
    """A number of bytes in the largest binary unit that keeps it at 1 or more.

    >>> bytes_text(900), bytes_text(15_990), bytes_text(3 * 2**20)
    ('900 B', '15.6 KiB', '3.0 MiB')
    """
    if not math.isfinite(count):
        return "not a number"
    power = binary_power(count)
    return f"{count:.0f} B" if power == 0 else f"{count / 1024**power:.1f} {BINARY_UNITS[power]}"


def binary_power(count: float) -> int:
    """The power of 1024 that suits a number of bytes, 0 to 4.

    >>> binary_power(1023), binary_power(1024)
    (0, 1)
    """
    power = 0
    while power < len(BINARY_UNITS) - 1 and count >= 1024 ** (power + 1):
        power += 1
    return power


def seconds_text(seconds: float) -> str:
    """A duration in at most two units.

    >>> seconds_text(0.25), seconds_text(12.34), seconds_text(200), seconds_text(7500)
    ('250 ms', '12.3 s', '3 min 20 s', '2 h 05 min')
    """
    if not math.isfinite(seconds):
        return "not a number"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number_text(value: float) -> str:
    """A number with four significant digits; whole numbers in full.

    >>> number_text(0.123456), number_text(658), number_text(12345), number_text(2.4e-7)
    ('0.1235', '658', '12,345', '2.4e-07')
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{value:+}".replace("inf", "infinite")
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def epsilon_text(value: float) -> str:
    """An epsilon with four significant digits, never less than it is.

    >>> epsilon_text(7.95612), epsilon_text(8.0)
    ('7.957', '8')
    """
    if not math.isfinite(value) or value <= 0:
        return number_text(value)
    last = Decimal(1).scaleb(math.floor(math.log10(value)) - 3)
    return number_text(float(Decimal(repr(value)).quantize(last, ROUND_CEILING)))


def metric_text(name: str, value: float) -> str:
    """A metric: an accuracy in percent, anything else as a number.

    >>> metric_text("accuracy", 0.9534), metric_text("loss", 0.3)
    ('95.3 %', '0.3')
    """
    if name == "epsilon":
        return epsilon_text(value)
    if name in ("accuracy", "eval_accuracy") and math.isfinite(value):
        return f"{100 * value:.1f} %"
    return number_text(value)
