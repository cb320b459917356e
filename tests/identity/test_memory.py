"""What is read from anybody takes little more memory than it has bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from qfl.errors import RefusedError
from qfl.identity.credentials import LONGEST_LINK, chain_from_bytes, people_from_bytes
from qfl.identity.policy import Policy
from qfl.identity.revocation import RevocationList
from qfl.identity.vouching import statements_from_bytes

Read = Callable[[bytes], Any]
MANY = 1_000_000


def array(count: int) -> bytes:
    """The head of an array (RFC 8949, section 3)."""
    return b"\x9a" + count.to_bytes(4, "big")


def peak_of(read: Read, data: bytes) -> int:
    """Most bytes that are held at a time while something is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError):
            read(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SMALL = {
    "lists": array(MANY) + b"\x80" * MANY,
    "maps": array(MANY) + b"\xa0" * MANY,
    "texts": array(MANY) + b"\x60" * MANY,
    "byte strings": array(MANY) + b"\x40" * MANY,
    "numbers": array(MANY) + b"\x18\x64" * MANY,
    "pairs": b"\xba" + MANY.to_bytes(4, "big") + b"\x60\x80" * MANY,
}


@pytest.mark.parametrize("read", [chain_from_bytes, people_from_bytes, statements_from_bytes])
@pytest.mark.parametrize("small", SMALL)
def test_very_many_small_things(read: Read, small: str) -> None:
    """As objects, empty lists would take sixty times their bytes."""
    data = SMALL[small]
    assert peak_of(read, data) < 8 * len(data)


def part(content: bytes) -> bytes:
    """A byte string."""
    return b"\x5a" + len(content).to_bytes(4, "big") + content


def test_very_many_small_things_inside_of_links() -> None:
    """They are read one by one, and each is short."""
    inside, links = LONGEST_LINK - 5, 16
    chain = bytes([0x80 + links]) + part(array(inside) + b"\x80" * inside) * links
    assert peak_of(chain_from_bytes, chain) < 8 * len(chain)


@pytest.mark.parametrize("read", [chain_from_bytes, people_from_bytes, statements_from_bytes])
@pytest.mark.parametrize("claimed", [1, 64, 2**32 - 1, 2**64 - 1])
def test_a_few_bytes_that_claim_many(read: Read, claimed: int) -> None:
    """Nothing is set aside for what is only said to come."""
    for head in (b"\x9b", b"\x81\x5b", b"\xbb"):
        assert peak_of(read, head + claimed.to_bytes(8, "big")) < 100_000


@pytest.mark.parametrize("read", [Policy.from_bytes, RevocationList.from_bytes])
@pytest.mark.parametrize("inside", [b"\x80", b"\xa0", b"\x81\x00"], ids=["lists", "maps", "ones"])
def test_a_document_of_empty_lists_is_refused_at_once(read: Read, inside: bytes) -> None:
    data = array(MANY) + inside * MANY
    assert peak_of(read, data) < 2 * len(data)
