"""Good bytes made bad: flipped, cut, stretched, spliced, numbers in them changed, or pure noise.

Everything is drawn from one seeded generator, so that a failure can be repeated. What is mutated
is often accepted up to the digest of the envelope; :func:`repacked` therefore puts a right digest
on a wrong header or body, as a dishonest sender would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from random import Random
from typing import Any

from qfl.crypto import Header, pack, unpack
from qfl.errors import PayloadError

Way = Callable[[bytes, bytes, Random], bytes]
LARGE = (2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
# What JSON can hold in the place of a number or a word.
ODD: tuple[Any, ...] = (
    *(-1, 0, 1, 2**31, 2**63, 10**30, 10**400, int("9" * 4300)),
    *(0.0, -0.5, 1e300, 1e-320, float("nan"), float("inf"), True, False, None),
    *("", "plain", "ckks", "masking", "x" * 300, "\x00", "\ud800", "é/../\n", "9" * 20),
    *([], ["loss"], [1], [None], ["\udfff"], {}, {"a": 1}),
)


def mutated(data: bytes, other: bytes, random: Random) -> bytes:
    """Something near ``data``.

    Args:
        data: Good bytes.
        other: Good bytes of the same kind, to splice with.
        random: Decides.
    """
    way: Way = random.choice(_WAYS)
    return way(data, other, random)


def repacked(payload: bytes, other: bytes, random: Random) -> bytes:
    """A payload with a right digest over a wrong header, a wrong body or both."""
    (header, body), (_, spare) = unpack(payload), unpack(other)
    which = random.randrange(8)
    if which > 2:
        body = mutated(body, spare, random)
    if which < 4:
        name = random.choice([item.name for item in fields(Header)])
        value = random.choice([*ODD, *asdict(header).values()])
        header = replace(header, **{name: value})
    try:
        return pack(header, body)
    except (PayloadError, ValueError):  # longer than any header, or not to be written as JSON
        return payload[: random.randrange(len(payload))]


def odd_json(text: str, random: Random) -> str:
    """A JSON object with fields changed, missing or new, or the text itself damaged."""
    if not random.randrange(4):
        raw = mutated(text.encode(), text.encode(), random)
        return raw.decode(errors="replace")
    values = json.loads(text)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        name = random.choice([*values, "more"])
        if random.randrange(6):
            values[name] = random.choice([*ODD, *values.values()])
        else:
            values.pop(name, None)
    return json.dumps(values)


def _flipped(data: bytes, other: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8, 64)) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _at_the_head(data: bytes, other: bytes, random: Random) -> bytes:
    """Heads are where sizes and counts stand: a flip anywhere rarely meets them."""
    end = random.choice((4, 16, 64, 256))
    return _flipped(data[:end], other, random) + data[end:]


def _cut(data: bytes, other: bytes, random: Random) -> bytes:
    at = random.choice((random.randrange(len(data) + 1), random.randrange(9), len(data) - 1))
    return data[: max(at, 0)]


def _stretched(data: bytes, other: bytes, random: Random) -> bytes:
    return data + random.choice((random.randbytes(random.randrange(1, 99)), data, other, b"\0"))


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + other[at if random.randrange(4) else random.randrange(len(other) + 1) :]


def _moved(data: bytes, other: bytes, random: Random) -> bytes:
    """A piece of the other in the middle of this one, of the same size."""
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    piece = other[start:stop].ljust(stop - start, b"\0")
    return data[:start] + piece + data[stop:]


def _numbered(data: bytes, other: bytes, random: Random) -> bytes:
    """A number in the head, or anywhere, becomes an extreme one."""
    size = random.choice((1, 2, 4, 8))
    value: int = random.choice((0, 1, *LARGE)) % 2 ** (8 * size)
    at = random.randrange(min(len(data), random.choice((32, 300, len(data) or 1))) or 1)
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def _blanked(data: bytes, other: bytes, random: Random) -> bytes:
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + random.choice((b"\0", b"\xff")) * (stop - start) + data[stop:]


def _noise(data: bytes, other: bytes, random: Random) -> bytes:
    kept = data[: random.choice((0, 0, 4, 8, 16))]
    return kept + random.randbytes(random.choice((0, 3, 40, 300, max(len(data) - len(kept), 0))))


_WAYS: tuple[Way, ...] = (
    *(_flipped, _at_the_head, _cut, _stretched, _spliced, _moved, _numbered, _blanked, _noise),
)
