"""One encoding for each value: deterministic CBOR (RFC 8949, section 4.2.1).

What is signed must have one form only, or a signature says less than it seems to. Values are maps
with text keys, arrays, texts, byte strings and whole numbers from 0 to 2^53; nothing else of CBOR
is written or read. No keys but texts means that the orders of RFC 7049 and RFC 8949 are the same.

Who sends bytes may be hostile. Their number is bounded before they are looked at; tags, which can
build large things out of few bytes, are refused before their content is read; what was read is
written again and must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import cbor2

from qfl.crypto.payload import LARGEST_NUMBER, is_text
from qfl.errors import PayloadError
from qfl.identity.refusal import Refusal, RefusedError

Value = dict[str, "Value"] | list["Value"] | str | bytes | int
MOST_DEPTH = 8
_BYTES, _ARRAY = 2, 4  # major types
_CONTAINERS = bytes(range(0x80, 0xC0))
_SIGNATURES_HEADS = 20_000  # a quarter of the bytes of the longest signatures
_KINDS = {str: "text", bytes: "bytes", int: "a number", list: "a list", dict: "a map"}


class _NoTags(Mapping[int, Callable[[Any, bool], Any]]):
    """What the reader asks for a tag's meaning: none has any."""

    def __getitem__(self, tag: int) -> NoReturn:
        raise ValueError(f"tag {tag}")

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


def encode(value: Value) -> bytes:
    """The one encoding of a value.

    Raises:
        PayloadError: Something in it is of another kind, out of range, or nested too deeply.

    Example:
        >>> encode({"round": 1, "id": b"7"}).hex()
        'a2626964413765726f756e6401'
    """
    wrong = _strange(value, MOST_DEPTH)
    if wrong:
        raise PayloadError(f"cannot be encoded: {wrong}")
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, what: str, at_most: int) -> Value:
    """The inverse of :func:`encode`.

    Args:
        data: Bytes from anybody.
        what: Their name in messages.
        at_most: Most bytes that are looked at.

    Raises:
        RefusedError: They are too many, not CBOR, not in the one form, or hold other kinds.

    Example:
        >>> decode(bytes.fromhex("a2626964413765726f756e6401"), "a message", 100)
        {'id': b'7', 'round': 1}
    """
    if len(data) > at_most:
        raise _damaged(what, f"it has {len(data)} bytes; at most {at_most} are read")
    try:
        value = cbor2.loads(
            data,
            semantic_decoders=_NoTags(),
            max_depth=MOST_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORError as error:
        raise _damaged(what, f"no such CBOR is read ({type(error).__name__})") from None
    wrong = _strange(value, MOST_DEPTH)
    if wrong:
        raise _damaged(what, wrong)
    if cbor2.dumps(value, canonical=True) != data:
        raise _damaged(what, "it is not in its one form")
    plain: Value = value
    return plain


def check_containers(data: bytes, what: str) -> None:
    """Refuse what would become many more objects than a document of texts has.

    For documents that anybody may send, and that are read before a signature can be checked: an
    empty list is one byte, and 56 bytes of memory.

    Raises:
        RefusedError: Too many bytes could begin a list or a map.
    """
    heads = len(data) - len(data.translate(None, _CONTAINERS))
    if heads > _SIGNATURES_HEADS + len(data) // 16:
        raise _damaged(what, f"{heads} of its {len(data)} bytes could begin a list or a map")


def decode_parts(data: bytes, what: str, most: int, longest: int) -> list[bytes]:
    """A list of byte strings, read without making anything else of what may be hostile bytes.

    Args:
        data: From :func:`encode`, of such a list.
        what: Their name in messages.
        most: Most byte strings.
        longest: Most bytes of one.

    Raises:
        RefusedError: The bytes are something else, or more.

    Example:
        >>> decode_parts(encode([b"a", b"bc"]), "parts", most=2, longest=10)
        [b'a', b'bc']
    """
    count, at = _head(data, 0, _ARRAY, what)
    if count > most:
        raise _damaged(what, f"it claims {count} parts; at most {most} are read")
    parts = []
    for _ in range(count):
        size, start = _head(data, at, _BYTES, what)
        at = start + size
        if size > longest or at > len(data):
            raise _damaged(what, f"a part claims {size} bytes; at most {longest} are read")
        parts.append(data[start:at])
    if at != len(data):
        raise _damaged(what, "it goes on after its end")
    return parts


def _head(data: bytes, at: int, kind: int, what: str) -> tuple[int, int]:
    """The number in the head of an item (RFC 8949, section 3), and where its content starts."""
    first = data[at] if at < len(data) else 0xFF
    extra = {24: 1, 25: 2, 26: 4, 27: 8}.get(first & 0x1F, 0)
    number = int.from_bytes(data[at + 1 : at + 1 + extra], "big") if extra else first & 0x1F
    end = at + 1 + extra
    # The shortest form is the only one, and what is of no definite length has none.
    least = {0: 0, 1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[extra]
    if first >> 5 != kind or number < least or end > len(data) or (not extra and number > 23):
        raise _damaged(what, f"no list of byte strings is read at byte {at}")
    return number, end


class Fields:
    """A map with exactly the expected keys, read kind by kind.

    Args:
        value: From :func:`decode`.
        what: Its name in messages.
        keys: Keys that must be there.
        optional: Keys that may be there.

    Raises:
        RefusedError: It is no map, or has other keys.

    Example:
        >>> Fields({"round": 3}, "a message", {"round"}).number("round")
        3
    """

    def __init__(
        self,
        value: Value,
        what: str,
        keys: frozenset[str] | set[str],
        optional: frozenset[str] | set[str] = frozenset(),
    ) -> None:
        if not isinstance(value, dict):
            raise _damaged(what, f"{_KINDS[type(value)]} stands where a map belongs")
        if not keys <= value.keys() <= keys | optional:
            raise _damaged(what, f"its keys are {sorted(value)!a}, expected {sorted(keys)}")
        self._values = value
        self._what = what

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, at_most: int = 256) -> str:
        """A text of at most so many characters."""
        value = self._values[key]
        if not isinstance(value, str) or len(value) > at_most:
            raise self._wrong(key, f"a text of at most {at_most} characters")
        return value

    def octets(self, key: str, size: int | None = None) -> bytes:
        """A byte string, of one length where one is given."""
        value = self._values[key]
        if not isinstance(value, bytes) or (size is not None and len(value) != size):
            raise self._wrong(key, "bytes" if size is None else f"{size} bytes")
        return value

    def number(self, key: str) -> int:
        """A whole number."""
        value = self._values[key]
        if not isinstance(value, int):
            raise self._wrong(key, "a number")
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        """At most so many texts."""
        return tuple(self._many(key, most, str))

    def byte_strings(self, key: str, most: int) -> tuple[bytes, ...]:
        """At most so many byte strings."""
        return tuple(self._many(key, most, bytes))

    def values(self, key: str, most: int) -> list[Value]:
        """A list of at most so many values."""
        return self._many(key, most, object)

    def _many(self, key: str, most: int, kind: type) -> list[Any]:
        value = self._values[key]
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(key, f"a list of at most {most}")
        if not all(isinstance(one, kind) for one in value):
            raise self._wrong(key, f"a list of {kind.__name__}")
        return value

    def _wrong(self, key: str, expected: str) -> RefusedError:
        return _damaged(self._what, f"{key} is not {expected}")


def _strange(value: object, depth: int) -> str:
    """What is not allowed in a value; empty where all is."""
    if depth == 0:
        return f"it is nested more than {MOST_DEPTH} deep"
    kind = type(value)
    if isinstance(value, int) and kind is int:
        return "" if 0 <= value <= LARGEST_NUMBER else "a number is below 0 or above 2^53"
    if isinstance(value, str) and kind is str:
        return "" if is_text(value) else "a text has half of a surrogate pair"
    if kind is bytes:
        return ""
    if isinstance(value, list) and kind is list:
        return next(filter(None, (_strange(one, depth - 1) for one in value)), "")
    if isinstance(value, dict) and kind is dict:
        if not all(type(key) is str and is_text(key) for key in value):
            return "a map has a key that is no text"
        return next(filter(None, (_strange(one, depth - 1) for one in value.values())), "")
    return f"{kind.__name__} is no kind that is written"


def _damaged(what: str, why: str) -> RefusedError:
    return RefusedError(Refusal.DAMAGED, f"{what} is damaged or made by something else: {why}")
