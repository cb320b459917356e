"""A search for secrets in all that a server received."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

# Neighbouring numbers of a vector that make a find; more of small ones, which are often alike.
RUN_OF_VALUES = 4
RUN_OF_SMALL = 32
RUN_OF_BYTES = 16
PREFIX = 8
FORMS = ("<f8", "<f4", "<i8", "<i4")

Needle = tuple[str, bytes]


@dataclass
class Secrets:
    """What no server may see, by kind.

    Attributes:
        vectors: Numbers: updates, local models, contributions as integers.
        small: Vectors of small integers: ring keys.
        keys: Bytes.
        numbers: Single numbers.
        public: Bytes that are known, and may be part of a secret.
    """

    vectors: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    small: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    keys: dict[str, list[bytes]] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    public: list[bytes] = field(default_factory=list)

    @property
    def kinds(self) -> set[str]:
        """Everything that was noted."""
        return {*self.vectors, *self.small, *self.keys, *self.numbers}

    def needles(self) -> Iterator[Needle]:
        """All of it, in all forms."""
        for kind, vectors in self.vectors.items():
            for vector in vectors:
                yield from ((kind, part) for part in _runs(vector, RUN_OF_VALUES))
        for kind, vectors in self.small.items():
            for vector in vectors:
                runs = _runs(vector, RUN_OF_SMALL, every=RUN_OF_SMALL // 2)
                yield from ((kind, part) for part in runs)
                yield from ((kind, part) for part in _pieces(vector.astype("<i1").tobytes(), 32))
        for kind, keys in self.keys.items():
            for part in (part for key in keys for part in _pieces(key, RUN_OF_BYTES)):
                if not any(part in public for public in self.public):
                    yield kind, part
                    yield kind, part.hex().encode()
        for kind, numbers in self.numbers.items():
            for number in numbers:
                yield kind, np.array([number], "<f8").tobytes()
                if number == round(number):
                    yield kind, np.array([number], "<i8").tobytes()


def _runs(vector: NDArray[Any], length: int, every: int = 1) -> Iterator[bytes]:
    """Neighbours as they could travel: as real numbers, and as integers if they are."""
    flat = np.asarray(vector).ravel()
    whole = bool((flat == np.rint(flat)).all())
    for form in FORMS if whole else FORMS[:2]:
        parts = sliding_window_view(flat.astype(form), length)[::every]
        different = (np.diff(np.sort(parts, axis=1), axis=1) != 0).sum(axis=1)
        # Zeros and the like are no secret, nor a find.
        yield from (part.tobytes() for part in parts[different > 1])


def _pieces(key: bytes, size: int) -> Iterator[bytes]:
    # They overlap by half, so that no stretch of one and a half slips through.
    yield from (key[at : at + size] for at in range(0, len(key) - size + 1, size // 2))
    yield key[-size:]


@dataclass(frozen=True)
class Seen:
    """What is in a server's messages.

    Attributes:
        blobs: All bytes: arrays, values, texts, reasons of errors.
        texts: Texts alone.
        values: Single numbers.
    """

    blobs: list[bytes]
    texts: list[str]
    values: list[float]

    @staticmethod
    def of(replies: Iterable[Message]) -> Seen:
        """From whole messages, with records of every type."""
        seen = Seen([], [], [])
        for reply in replies:
            if reply.has_error():
                seen._take(str(reply.error.reason))
                continue
            for name, record in reply.content.items():
                seen._take(name)
                for key, value in record.items():
                    seen._take(key)
                    if isinstance(record, ArrayRecord):
                        seen._take(value.stype)
                        seen.blobs.append(bytes(value.data))
                        continue
                    for item in value if isinstance(value, list) else [value]:
                        seen._take(item)
        return seen

    def _take(self, item: Any) -> None:
        if isinstance(item, bytes):
            self.blobs.append(item)
        elif isinstance(item, str):
            self.texts.append(item)
            self.blobs.append(item.encode())
        else:
            self.values.append(float(item))

    def numbers(self) -> set[float]:
        """Single numbers, also those in texts."""
        spelt = re.findall(r"-?\d+\.?\d*(?:e[+-]?\d+)?", " ".join(self.texts))
        return {*self.values, *(float(text) for text in spelt)}


def leaks(replies: Iterable[Message], secrets: Secrets) -> set[str]:
    """Kinds of secrets that occur in messages to a server."""
    seen = Seen.of(replies)
    numbers = seen.numbers()
    found = {kind for kind, values in secrets.numbers.items() if numbers & set(values)}
    found |= {kind for kind, vectors in secrets.vectors.items() if _spelt(numbers, vectors)}
    return found | _occurring(seen, secrets.needles())


def _spelt(numbers: set[float], vectors: list[NDArray[Any]]) -> bool:
    """Whether a single number is a coordinate, to five digits or more."""
    coordinates = np.abs(np.concatenate([np.asarray(v, np.float64).ravel() for v in vectors]))
    real = coordinates[coordinates != np.rint(coordinates)]
    odd = [abs(number) for number in numbers if number != round(number, 3)]
    return any(np.isclose(real, number, rtol=5e-6, atol=0).any() for number in odd)


def _occurring(seen: Seen, needles: Iterable[Needle]) -> set[str]:
    """Kinds of needles in the bytes: all places where a needle may begin, by its first octets."""
    hay = b"\x00SEPARATOR\x00".join(seen.blobs)
    by_prefix: dict[int, set[Needle]] = {}
    for kind, needle in needles:
        by_prefix.setdefault(int.from_bytes(needle[:PREFIX], "little"), set()).add((kind, needle))
    prefixes = np.array(sorted(by_prefix), dtype="<u8")
    found: set[str] = set()
    for offset in range(PREFIX):
        words = np.frombuffer(hay, "<u8", count=(len(hay) - offset) // 8, offset=offset)
        nearest = prefixes[np.minimum(np.searchsorted(prefixes, words), prefixes.size - 1)]
        for hit in np.flatnonzero(nearest == words).tolist():
            for kind, needle in by_prefix[int(words[hit])]:
                if hay.startswith(needle, offset + 8 * hit):
                    found.add(kind)
    return found
