"""What others say, fit for records and terminals."""

from __future__ import annotations

LONGEST = 500


def said(text: str) -> str:
    r"""One line of printable text, cut where it is long.

    Example:
        >>> said("no more disk\x1b[2J\nat line 3")
        'no more disk?[2J'
        >>> said("")
        'unknown error'
    """
    lines = text.strip().splitlines()
    line = lines[0] if lines else "unknown error"
    cut = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    return "".join(sign if sign.isprintable() else "?" for sign in cut)
