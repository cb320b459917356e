"""The one encoding: RFC 8949's own examples, round trips, and what hostile bytes do."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import given

from qfl.errors import PayloadError
from qfl.identity.canonical import MOST_DEPTH, Fields, Value, decode, decode_parts, encode
from qfl.identity.description import Description
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.identity import Identity
from qfl.identity.opening import open_envelope
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.revocation import RevocationList, Revoked, revoke
from qfl.identity.sending import seal_envelope

leaves = st.integers(0, 2**53) | st.text(max_size=20) | st.binary(max_size=300)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=30), inner),
    max_leaves=12,
)


def by_hand(value: Value) -> bytes:
    """RFC 8949, section 4.2.1, written down a second time."""

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes([major << 5 | number])
        for extra, size in enumerate((1, 2, 4, 8)):
            if number < 1 << 8 * size:
                return bytes([major << 5 | 24 + extra]) + number.to_bytes(size, "big")
        raise AssertionError

    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(by_hand, value))
    items = sorted((by_hand(key), by_hand(inner)) for key, inner in value.items())
    return head(5, len(items)) + b"".join(key + inner for key, inner in items)


@given(values)
def test_every_value_has_one_encoding_and_comes_back(value: Value) -> None:
    data = encode(value)
    assert data == by_hand(value)
    assert decode(data, "a value", len(data)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [  # RFC 8949, appendix A
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1b000000e8d4a51000", 1000000000000),
        ("40", b""),
        ("4401020304", bytes([1, 2, 3, 4])),
        ("62225c", '"\\'),
        ("63e6b0b4", "\u6c34"),
        ("64f0908591", "\U00010151"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("826161a161626163", ["a", {"b": "c"}]),
    ],
)
def test_examples_of_the_standard(text: str, value: Value) -> None:
    assert encode(value).hex() == text
    assert decode(bytes.fromhex(text), "x", 99) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1817",  # 23 in two bytes
        "1b0000000000000000",
        "5803010203",
        "a2616201616101",  # keys in another order
        "a2616101616101",  # a key twice
        "9f0102ff",  # indefinite lengths
        "5f420102ff",
        "bf616101ff",
        "0000",  # two values
        "20",  # below 0
        "1b0020000000000001",  # above 2^53
        "f4",
        "f6",
        "f7",
        "f0",
        "f8ff",
        "f93c00",
        "fb3ff0000000000000",
        "fb7ff8000000000000",
        "a10101",  # keys that are no texts
        "a1410101",
        "a1f501",
        "62c328",  # no UTF-8
        "63eda080",  # half of a surrogate pair
        "c074323031332d30332d32315432303a30343a30305a",  # tags: time, large numbers, fractions,
        "c249010000000000000000",
        "c48221196ab3",
        "c5822003",
        "c51b7fffffffffffffff",
        "d81c81d81d00",  # shared references
        "d81d00",
        "d9010080",  # string references
        "d8236161",  # a regular expression
        "d9d9f700",  # "this is CBOR"
        "9bffffffffffffffff",  # lengths that nobody has
        "5bffffffffffffffff",
        "bb7fffffffffffffff",
        "1c",
        "ff",
        "81" * (MOST_DEPTH) + "00",
        "81" * 100_000,
        "d8" * 100_000,
    ],
)
def test_other_forms_and_kinds_are_refused(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        decode(bytes.fromhex(text), "a message", 1 << 20)
    assert caught.value.reason is Refusal.DAMAGED
    assert str(caught.value).startswith("a message is damaged or made by something else")


def test_too_many_bytes_are_not_looked_at() -> None:
    with pytest.raises(RefusedError, match="at most 3 are read"):
        decode(b"\xff" * 4, "x", 3)


@pytest.mark.parametrize(
    "value", [-1, 2**53 + 1, 1.5, None, True, (), {1: 2}, "\ud800", {"\ud800": 1}, [[None]]]
)
def test_other_kinds_are_not_written(value: Value) -> None:
    with pytest.raises(PayloadError, match="cannot be encoded"):
        encode(value)


def test_fields_are_of_the_expected_kind() -> None:
    fields = Fields({"t": "abc", "b": b"12", "n": 1, "l": ["x", 1]}, "x", set("tbnl"))
    for read in (
        lambda: fields.text("b"),
        lambda: fields.text("t", 2),
        lambda: fields.octets("t"),
        lambda: fields.octets("b", 3),
        lambda: fields.number("t"),
        lambda: fields.texts("l", 2),
        lambda: fields.byte_strings("l", 2),
        lambda: fields.values("l", 1),
        lambda: fields.values("t", 9),
    ):
        with pytest.raises(RefusedError) as caught:
            read()
        assert caught.value.reason is Refusal.DAMAGED
    for strange in ([], 1, "x", {"t": 1}):
        with pytest.raises(RefusedError):
            Fields(strange, "x", {"t", "b"})


NOW = 1_800_000_000
NODE = Identity.create(["client", "operator"], now=NOW)
PLACE = Place("run", 1, "train")
LIST = revoke(NODE, None, [Revoked(NODE.did, NOW, "lost")], now=NOW)
MESSAGE = seal_envelope(b"update", NODE, PLACE, [NODE.description])
OPEN = seal_envelope(b"update", NODE, PLACE, [], sealed=False)
REGISTRY = Registry({NODE.did: ["client"]})
REGISTRY.admit([NODE.description])


def open_any(data: bytes) -> Envelope:
    expected = Expected(PLACE, sealed=False)
    guard = ReplayGuard()
    return open_envelope(data, expected, REGISTRY, NOW, identity=NODE, guard=guard)[0]


PARSERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (lambda data: decode(data, "x", 1 << 16), encode({"a": [1, b"2", "3", {"b": [1, 2]}]})),
    (Description.from_bytes, NODE.description.to_bytes()),
    (RevocationList.from_bytes, LIST.to_bytes()),
    (open_any, MESSAGE),
    (open_any, OPEN),
]


def hostile(rounds: int, seed: int) -> int:
    """Feed parsers noise and broken originals; the number of those that were taken."""
    draw, taken = random.Random(seed), 0
    for number in range(rounds):
        parse, good = PARSERS[number % len(PARSERS)]
        data = bytearray(good)
        match draw.randrange(5):
            case 0:
                data = bytearray(draw.randbytes(draw.randrange(200)))
            case 1:
                for _ in range(draw.randint(1, 4)):
                    data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
            case 2:
                del data[draw.randrange(len(data)) :]
            case 3:
                at = draw.randrange(min(len(data), 400))
                data[at:at] = draw.randbytes(draw.randint(1, 9))
            case 4:
                at = draw.randrange(min(len(data), 400))
                del data[at : at + draw.randint(1, 9)]
        if bytes(data) == good:
            continue
        try:
            parse(bytes(data))
        except RefusedError:
            continue
        taken += parse is open_any  # an opened envelope would be a forgery
    return taken


def test_hostile_bytes_are_refused_and_nothing_else_happens() -> None:
    assert hostile(5_000, 1) == 0


@pytest.mark.slow
def test_more_hostile_bytes_are_refused_and_nothing_else_happens() -> None:
    assert hostile(100_000, 2) == 0


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    def verified_description(raw: bytes) -> None:
        Description.from_bytes(raw).verify(NOW)

    def verified_list(raw: bytes) -> None:
        RevocationList.from_bytes(raw).verify(NODE.description, NOW)

    for parse, good in (
        (verified_description, NODE.description.to_bytes()),
        (verified_list, LIST.to_bytes()),
        (open_any, MESSAGE),
        (open_any, OPEN),
    ):
        parse(good)
        bit = data.draw(st.integers(0, 8 * len(good) - 1))
        broken = bytearray(good)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RefusedError):
            parse(bytes(broken))


@pytest.mark.parametrize("tag", [0, 1, 2, 3, 4, 5, 28, 29, 30, 35, 36, 37, 100, 256, 258, 55799])
@pytest.mark.parametrize("content", ["00", "4101", "6161", "820101", "80"])
def test_no_tag_is_given_a_meaning(tag: int, content: str) -> None:
    head = b"\xd9" + tag.to_bytes(2, "big")
    with pytest.raises(RefusedError, match="no such CBOR is read"):
        decode(head + bytes.fromhex(content), "x", 99)


def test_a_tag_is_refused_before_its_content_is_read() -> None:
    # What the refusals above rest on: the reader asks for each tag's meaning first.
    asked = []

    class Tags(dict[int, object]):
        def __getitem__(self, tag: int) -> object:
            asked.append(tag)
            raise ValueError

    with pytest.raises(cbor2.CBORDecodeError):
        cbor2.load(io.BytesIO(bytes.fromhex("c5ff")), semantic_decoders=Tags())
    assert asked == [5]


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_parts_are_read_as_any_reader_does(parts: list[bytes]) -> None:
    data = cbor2.dumps(parts, canonical=True)
    assert decode_parts(data, "parts", 30, 300) == parts
    for wrong in (data[:-1], data + b"\0", b"\x9f" + data[1:] + b"\xff"):
        with pytest.raises(RefusedError):
            decode_parts(wrong, "parts", 30, 300)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "80ff",
        "9801" + "4161",  # a list of one in two bytes
        "81" + "580161",  # one byte with its length in two
        "81" + "6161",  # a text
        "81" + "80",  # a list
        "9bffffffffffffffff",
        "81" + "5bffffffffffffffff",
        "9c",
        "c28161",
    ],
    ids=lambda data: data or "empty",
)
def test_what_is_no_list_of_byte_strings_is_refused(data: str) -> None:
    with pytest.raises(RefusedError, match="damaged"):
        decode_parts(bytes.fromhex(data), "parts", 1 << 62, 1 << 62)


@given(st.binary(max_size=200))
def test_any_bytes_are_parts_or_are_refused(data: bytes) -> None:
    try:
        parts = decode_parts(data, "parts", 100, 100)
    except RefusedError:
        return
    assert encode(list(parts)) == data
