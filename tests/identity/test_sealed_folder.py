"""Sealed folders: what they hide, what is said when they do not open, and their format."""

from __future__ import annotations

import hashlib
import os

import cbor2
import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings

from qfl.errors import PayloadError
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.sealed_folder import open_folder, seal_folder

PHRASE = "correct horse battery"
FILES = {"identity.key": b"the secret of the clinic", "tls/ca.crt": b"", "kit.json": b"{}"}
SEALED = seal_folder(FILES, PHRASE, cost=15)


def reason(data: bytes, passphrase: str = PHRASE) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        open_folder(data, passphrase)
    assert PHRASE not in str(caught.value) and caught.value.__cause__ is None
    return Refusal(caught.value.reason)


def rewritten(**changes: object) -> bytes:
    header, locked = cbor2.loads(SEALED)
    header = cbor2.dumps(cbor2.loads(header) | changes, canonical=True)
    return cbor2.dumps([header, locked], canonical=True)


def test_files_come_back_and_are_hidden_before() -> None:
    assert open_folder(SEALED, PHRASE) == FILES
    for secret in (*FILES, FILES["identity.key"].decode(), PHRASE):
        assert secret.encode() not in SEALED


def test_the_format_is_scrypt_and_aes_gcm() -> None:
    header, locked = cbor2.loads(SEALED)
    read = cbor2.loads(header)
    assert (read["kind"], read["version"], read["cost"]) == ("sealed folder", 1, 15)
    key = hashlib.scrypt(
        PHRASE.encode(), salt=read["salt"], n=2**15, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    assert cbor2.loads(AESGCM(key).decrypt(read["nonce"], locked, header)) == FILES


def test_two_seals_share_nothing() -> None:
    one, two = (cbor2.loads(cbor2.loads(data)[0]) for data in (SEALED, seal_folder(FILES, PHRASE)))
    assert one["salt"] != two["salt"] and one["nonce"] != two["nonce"]
    assert (one["cost"], two["cost"]) == (15, 17)


def test_an_accent_may_be_typed_in_either_way() -> None:
    composed, apart = "caf\u00e9 au lait noir", "cafe\u0301 au lait noir"
    assert open_folder(seal_folder(FILES, composed, cost=15), apart) == FILES


def test_a_wrong_passphrase_and_damage_are_told() -> None:
    assert reason(SEALED, "incorrect horse") is Refusal.PASSPHRASE
    assert reason(SEALED[:-1] + bytes([SEALED[-1] ^ 1])) is Refusal.PASSPHRASE
    for broken in (b"", SEALED[:-1], SEALED + b"x", os.urandom(100), bytes(1 << 25)):
        assert reason(broken) is Refusal.DAMAGED
    assert reason(rewritten(version=2)) is Refusal.VERSION
    assert reason(rewritten(kind="identity key file")) is Refusal.DAMAGED
    for cost in (0, 14, 18, 2**40):
        assert reason(rewritten(cost=cost)) is Refusal.DAMAGED
    assert reason(rewritten(salt=b"")) is Refusal.DAMAGED
    # A salt, nonce or cost of the right form is bound to the rest.
    assert reason(rewritten(cost=16)) is Refusal.PASSPHRASE
    assert reason(rewritten(nonce=bytes(12))) is Refusal.PASSPHRASE


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, by: int) -> None:
    data = bytearray(SEALED)
    data[at] ^= by
    with pytest.raises(RefusedError):
        open_folder(bytes(data), PHRASE)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_from_anybody_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        open_folder(data, PHRASE)


def test_what_cannot_be_sealed() -> None:
    with pytest.raises(PayloadError, match="at least 12 characters"):
        seal_folder(FILES, "short")
    with pytest.raises(PayloadError, match="surrogate"):
        seal_folder(FILES, "\ud800 is no character")
    with pytest.raises(PayloadError, match="allowed are 15 to 17"):
        seal_folder(FILES, PHRASE, cost=30)
    with pytest.raises(PayloadError, match="at most 16777216"):
        seal_folder({"a": bytes(1 << 24)}, PHRASE, cost=15)


def test_what_is_sealed_must_be_files() -> None:
    header, _ = cbor2.loads(SEALED)
    read = cbor2.loads(header)
    key = hashlib.scrypt(
        PHRASE.encode(), salt=read["salt"], n=2**15, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    for plain in ([], {}, {"a": 1}, {"a": {"b": b""}}):
        inside = cbor2.dumps(plain, canonical=True)
        locked = AESGCM(key).encrypt(read["nonce"], inside, header)
        assert reason(cbor2.dumps([header, locked], canonical=True)) is Refusal.DAMAGED
