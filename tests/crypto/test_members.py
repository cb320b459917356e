"""Members of a run, the roster, and signatures over what was agreed on."""

from __future__ import annotations

import hashlib
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto import Member, MemberKeys, Roster
from qfl.crypto.members import MOST_MEMBERS, SIGNATURE_BYTES, check_signatures
from qfl.errors import PayloadError

KEYS = [MemberKeys(bytes([i]) * 64) for i in range(5)]
MEMBERS = [keys.member for keys in KEYS]
ROSTER = Roster(MEMBERS)
NAMES = sorted(keys.name for keys in KEYS)
MEMBER_BYTES = 1248


# Members.


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
            "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e"
            "458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_signatures_are_those_of_rfc_8032(
    secret: str, public: str, message: str, signature: str
) -> None:
    keys = MemberKeys(bytes.fromhex(secret) + bytes(32))
    assert keys.member.signing.hex() == public
    assert keys.sign(bytes.fromhex(message)).hex() == signature
    assert keys.member.verifies(bytes.fromhex(message), bytes.fromhex(signature))


def test_keys_grow_from_their_seed() -> None:
    again = MemberKeys(KEYS[0].seed)
    assert again.member == MEMBERS[0] and again.name == KEYS[0].name
    assert again.open(MEMBERS[0].seal(b"share", b"place"), b"place") == b"share"
    assert len({MemberKeys().name for _ in range(5)}) == 5


def test_a_name_stands_for_both_keys() -> None:
    name = hashlib.sha256(MEMBERS[0].signing + MEMBERS[0].sealing).hexdigest()[:16]
    assert MEMBERS[0].name == KEYS[0].name == name
    assert Member(MEMBERS[1].signing, MEMBERS[0].sealing).name != name
    assert Member(MEMBERS[0].signing, MEMBERS[1].sealing).name != name


def test_a_seed_is_not_printed() -> None:
    keys = MemberKeys()
    assert repr(keys) == str(keys) == f"MemberKeys(name='{keys.name}')"


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(PayloadError, match=f"a seed of {size} bytes was given; expected 64"):
        MemberKeys(bytes(size))


def test_a_member_as_bytes() -> None:
    data = MEMBERS[0].to_bytes()
    assert len(data) == MEMBER_BYTES and Member.from_bytes(data) == MEMBERS[0]


@pytest.mark.parametrize(
    ("size", "found"), [(0, "0 and 0"), (20, "20 and 0"), (1247, "32 and 1215"), (1249, "32 and 1")]
)
def test_a_member_of_another_length_is_refused(size: int, found: str) -> None:
    with pytest.raises(PayloadError, match=f"a member's keys have {found}.*expected 32 and 1216"):
        Member.from_bytes(bytes(size))


# Signatures.


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_only_the_signed_message_verifies(message: bytes, other: bytes) -> None:
    signature = KEYS[0].sign(message)
    assert MEMBERS[0].verifies(message, signature)
    assert MEMBERS[0].verifies(other, signature) == (other == message)
    assert not MEMBERS[1].verifies(message, signature)


@settings(max_examples=60)
@given(st.integers(0, 8 * SIGNATURE_BYTES - 1))
def test_a_changed_signature_does_not_verify(bit: int) -> None:
    changed = bytearray(KEYS[0].sign(b"survivors"))
    changed[bit // 8] ^= 1 << bit % 8
    assert not MEMBERS[0].verifies(b"survivors", bytes(changed))


@pytest.mark.parametrize("size", [0, 1, 63, 65, 1000])
def test_a_signature_of_another_length_does_not_verify(size: int) -> None:
    assert not MEMBERS[0].verifies(b"survivors", bytes(size))


def test_no_second_signature_can_be_made_of_one() -> None:
    """The order of the group added to the second half: the same number modulo it."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = KEYS[0].sign(b"survivors")
    raised = int.from_bytes(signature[32:], "little") + order
    assert not MEMBERS[0].verifies(b"survivors", signature[:32] + raised.to_bytes(32, "little"))


def test_a_signing_key_that_is_none_verifies_nothing() -> None:
    member = Member(b"\xff" * 32, MEMBERS[0].sealing)
    assert not member.verifies(b"", KEYS[0].sign(b""))


def check(signatures: dict[str, bytes], at_least: int, message: bytes = b"the sum") -> None:
    check_signatures(message, signatures, ROSTER, at_least)


def test_enough_signatures_pass() -> None:
    signatures = {keys.name: keys.sign(b"the sum") for keys in KEYS[:3]}
    for at_least in (0, 1, 2, 3):
        check(signatures, at_least)


def test_too_few_signatures_are_refused() -> None:
    signatures = {keys.name: keys.sign(b"the sum") for keys in KEYS[:3]}
    for some, at_least in ((signatures, 4), ({}, 1)):
        with pytest.raises(
            PayloadError,
            match=f"^{len(some)} members signed what was agreed on; at least {at_least} must$",
        ):
            check(some, at_least)


def test_one_wrong_signature_is_one_too_many() -> None:
    """Also where the others would do: somebody lied, and who asks has to know."""
    good = {keys.name: keys.sign(b"the sum") for keys in KEYS[:3]}
    for wrong in (KEYS[3].sign(b"another sum"), KEYS[0].sign(b"the sum"), bytes(64), b""):
        with pytest.raises(
            PayloadError, match=f"the signature of member {KEYS[3].name} does not fit what was agr"
        ):
            check(good | {KEYS[3].name: wrong}, 3)


def test_a_stranger_s_signature_is_refused() -> None:
    stranger = MemberKeys()
    with pytest.raises(PayloadError, match=f"'{stranger.name}' is not on the roster of 5 members"):
        check({stranger.name: stranger.sign(b"the sum")}, 1)


# The roster.


@given(st.permutations(MEMBERS))
def test_a_roster_is_the_same_in_whatever_order_it_was_made(members: list[Member]) -> None:
    roster = Roster(members)
    assert roster.names == NAMES
    assert roster.to_bytes() == ROSTER.to_bytes() and roster.digest == ROSTER.digest
    assert [roster.member(name).name for name in roster.names] == NAMES


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_roster_as_bytes(count: int) -> None:
    roster = Roster(MEMBERS[:count])
    again = Roster.from_bytes(roster.to_bytes())
    assert again.names == roster.names and again.to_bytes() == roster.to_bytes()
    assert len(roster.to_bytes()) == 8 + count * MEMBER_BYTES


def test_a_digest_stands_for_every_member() -> None:
    rosters = [Roster(MEMBERS[:count]) for count in range(6)] + [Roster(MEMBERS[1:])]
    assert len({roster.digest for roster in rosters}) == 7
    assert all(len(roster.digest) == 32 for roster in rosters)


def test_a_member_that_is_there_twice_is_refused() -> None:
    with pytest.raises(PayloadError, match="a roster names a member twice"):
        Roster([*MEMBERS, MEMBERS[2]])


def test_who_is_not_on_the_roster() -> None:
    with pytest.raises(PayloadError, match="'0000' is not on the roster of 5 members"):
        ROSTER.member("0000")


@pytest.mark.parametrize("data", [b"", b"qfl", b"qflr", b"qflr\0\0\0", b"nonsense", bytes(2000)])
def test_what_is_no_roster_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError, match="not a roster: it starts with"):
        Roster.from_bytes(data)


def claiming(count: int, *members: Member) -> bytes:
    return b"qflr" + struct.pack("<I", count) + b"".join(m.to_bytes() for m in members)


@pytest.mark.parametrize("count", [0, 4, 6, MOST_MEMBERS + 1, 2**32 - 1])
def test_another_number_of_members_than_there_are_is_refused(count: int) -> None:
    data = claiming(count, *(ROSTER.member(name) for name in NAMES))
    with pytest.raises(PayloadError, match=f"a roster of {len(data)} bytes claims {count} members"):
        Roster.from_bytes(data)


def test_a_roster_that_was_cut_or_lengthened_is_refused() -> None:
    data = ROSTER.to_bytes()
    for changed in (data[:-1], data + b"\0", data[: 8 + MEMBER_BYTES]):
        with pytest.raises(PayloadError, match="claims 5 members"):
            Roster.from_bytes(changed)


def test_an_unordered_roster_is_refused() -> None:
    """Every roster has one form, or its digest would not stand for it."""
    first, second, *_ = (ROSTER.member(name) for name in NAMES)
    with pytest.raises(PayloadError, match="a roster's members are not ordered by name"):
        Roster.from_bytes(claiming(2, second, first))
    with pytest.raises(PayloadError, match="a roster names a member twice"):
        Roster.from_bytes(claiming(2, first, first))


def test_another_key_under_the_same_place_is_another_member() -> None:
    """A name is a digest of the keys: no key can be put under a name that it does not have."""
    data = bytearray(claiming(1, MEMBERS[0]))
    data[8] ^= 1
    assert MEMBERS[0].name not in Roster.from_bytes(bytes(data)).names
