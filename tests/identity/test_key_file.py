"""Key files: what they protect against, what is said when they do not open, and their format."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

import cbor2
import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings

from qfl.crypto.sealing import seal
from qfl.crypto.signatures import verify
from qfl.errors import PayloadError, StorageError
from qfl.identity.identity import Identity
from qfl.identity.key_file import load_identity, read_did, save_identity
from qfl.identity.refusal import Refusal, RefusedError

PHRASE = "correct horse battery"
NODE, OTHER = Identity.create(["client"]), Identity.create(["client"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved identity."""
    made = tmp_path / "node.key"
    save_identity(made, NODE, passphrase=PHRASE, cost=15)
    return made


def reason(path: Path, **how: object) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        load_identity(path, **(how or {"passphrase": PHRASE}))  # type: ignore[arg-type]
    for secret in (PHRASE, NODE.signing.secret.hex(), NODE.sealing.seed.hex()):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.reason


def rewrite(path: Path, **changes: object) -> None:
    """Change fields of the header, which is not secret."""
    header, locked = cbor2.loads(path.read_bytes())
    header = cbor2.dumps(cbor2.loads(header) | changes, canonical=True)
    path.write_bytes(cbor2.dumps([header, locked], canonical=True))


def test_an_identity_comes_back_whole(path: Path) -> None:
    found = load_identity(path, passphrase=PHRASE)
    assert found.description == NODE.description
    assert (found.did, found.signing.provider) == (NODE.did, NODE.signing.provider)
    verify(NODE.algorithm, NODE.public, b"m", found.sign(b"m", b"c"), b"c")
    assert found.open(seal(b"share", NODE.description.sealing, b"x"), b"x") == b"share"
    assert read_did(path) == NODE.did


def test_nobody_else_reads_it_and_nothing_is_left_beside_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    raw = path.read_bytes()
    for secret in (NODE.signing.secret, NODE.sealing.seed, PHRASE.encode()):
        assert secret not in raw


def test_the_format_is_scrypt_and_aes_gcm(path: Path) -> None:
    # Opened with the standard library's scrypt, from what the file says.
    header, locked = cbor2.loads(path.read_bytes())
    read = cbor2.loads(header)
    assert {k: read[k] for k in ("kind", "version", "unlock", "cost")} == {
        "kind": "identity key file",
        "version": 1,
        "unlock": "passphrase",
        "cost": 15,
    }
    key = hashlib.scrypt(
        PHRASE.encode(), salt=read["salt"], n=2**15, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    plain = cbor2.loads(AESGCM(key).decrypt(read["nonce"], locked, header))
    assert plain == {
        "signing": NODE.signing.secret,
        "sealing": NODE.sealing.seed,
        "description": NODE.description.to_bytes(),
    }


def test_two_files_of_one_identity_share_nothing_secret(path: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.key"
    save_identity(second, NODE, passphrase=PHRASE, cost=15)
    (one, a), (two, b) = (cbor2.loads(file.read_bytes()) for file in (path, second))
    assert cbor2.loads(one)["salt"] != cbor2.loads(two)["salt"]
    assert cbor2.loads(one)["nonce"] != cbor2.loads(two)["nonce"]
    pieces = {a[at : at + 16] for at in range(len(a) - 15)}
    assert not any(b[at : at + 16] in pieces for at in range(len(b) - 15))


def test_a_wrong_passphrase_and_damage_are_told(path: Path) -> None:
    assert reason(path, passphrase="incorrect horse") is Refusal.PASSPHRASE
    with pytest.raises(RefusedError, match=r"the passphrase is wrong, or .* was changed"):
        load_identity(path, passphrase="incorrect horse")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert reason(path) is Refusal.PASSPHRASE
    for broken in (b"", raw[:-1], raw + b"x", b"-----BEGIN", os.urandom(200), bytes(2 << 20)):
        path.write_bytes(broken)
        assert reason(path) is Refusal.DAMAGED


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved identity that a test may change."""
    made = tmp_path_factory.mktemp("key") / "node.key"
    save_identity(made, NODE, passphrase=PHRASE, cost=15)
    return made


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused(data: st.DataObject, saved: Path) -> None:
    good = saved.read_bytes()
    raw = bytearray(good)
    at = data.draw(st.integers(0, 400) | st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        saved.write_bytes(raw)
        reason(saved)
    finally:
        saved.write_bytes(good)


@settings(max_examples=5, deadline=None)
@given(phrase=st.text(st.characters(exclude_categories=["Cs"]), min_size=12, max_size=60))
def test_any_passphrase_opens_what_it_closed(phrase: str, saved: Path) -> None:
    path = saved.with_name("other.key")
    save_identity(path, NODE, passphrase=phrase, cost=15, replace=True)
    assert load_identity(path, passphrase=phrase).did == NODE.did
    assert reason(path, passphrase=phrase + "x") is Refusal.PASSPHRASE


def test_one_passphrase_written_in_two_ways_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    save_identity(path, NODE, passphrase="caf\u00e9 caf\u00e9 caf\u00e9", cost=15)
    assert load_identity(path, passphrase="cafe\u0301 cafe\u0301 cafe\u0301").did == NODE.did


def test_the_header_cannot_be_changed(path: Path) -> None:
    raw = path.read_bytes()
    for changes, expected in (
        ({"did": OTHER.did}, Refusal.PASSPHRASE),
        ({"provider": "hsm"}, Refusal.PASSPHRASE),
        ({"cost": 16}, Refusal.PASSPHRASE),
        ({"salt": bytes(16)}, Refusal.PASSPHRASE),
        ({"cost": 40}, Refusal.DAMAGED),  # a terabyte of memory
        ({"cost": 1}, Refusal.DAMAGED),
        ({"salt": b""}, Refusal.DAMAGED),
        ({"did": "x"}, Refusal.DID),
        ({"more": 1}, Refusal.DAMAGED),
        ({"kind": "something"}, Refusal.DAMAGED),
        ({"version": 2}, Refusal.VERSION),
        ({"version": "1"}, Refusal.VERSION),
    ):
        path.write_bytes(raw)
        rewrite(path, **changes)
        assert reason(path) is expected


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660, 0o601])
def test_a_file_that_others_may_touch_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert reason(path) is Refusal.MODE
    with pytest.raises(RefusedError, match=f"mode {mode:04o}.*chmod 600"):
        read_did(path)
    path.chmod(0o400)
    assert load_identity(path, passphrase=PHRASE).did == NODE.did


def test_nothing_is_overwritten_without_being_told(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already and was left alone"):
        save_identity(path, OTHER, passphrase=PHRASE, cost=15)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    save_identity(path, OTHER, passphrase=PHRASE, cost=15, replace=True)
    assert load_identity(path, passphrase=PHRASE).did == OTHER.did
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
def test_a_disk_that_fails_leaves_what_was_there(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    target = path.with_name("new.key") if step == "link" else path
    with pytest.raises(StorageError, match="No space left"):
        save_identity(target, OTHER, passphrase=PHRASE, cost=15, replace=step != "link")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_link_is_not_followed_when_writing(path: Path) -> None:
    link = path.with_name("link.key")
    link.symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already"):
        save_identity(link, OTHER, passphrase=PHRASE, cost=15)
    save_identity(link, OTHER, passphrase=PHRASE, cost=15, replace=True)
    assert not link.is_symlink()
    assert path.read_bytes() == before


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for missing in (tmp_path / "none", tmp_path, pipe):
        with pytest.raises(StorageError, match=str(missing)):
            load_identity(missing, passphrase=PHRASE)
    with pytest.raises(StorageError, match="cannot write"):
        save_identity(tmp_path / "no" / "x", NODE, passphrase=PHRASE, cost=15)


def test_a_key_file_opens_as_well(tmp_path: Path) -> None:
    path, unlock, other = (tmp_path / name for name in ("node.key", "unlock", "other"))
    for file in (unlock, other):
        file.write_bytes(os.urandom(32))
        file.chmod(0o600)
    save_identity(path, NODE, key_file=unlock, cost=15)
    assert load_identity(path, key_file=unlock).did == NODE.did
    assert reason(path, key_file=other) is Refusal.PASSPHRASE
    assert reason(path, passphrase=PHRASE) is Refusal.PASSPHRASE
    with pytest.raises(RefusedError, match="opened by a 'key file', not by a passphrase"):
        load_identity(path, passphrase=PHRASE)
    unlock.chmod(0o644)
    assert reason(path, key_file=unlock) is Refusal.MODE


def test_weak_and_missing_secrets_are_refused(tmp_path: Path) -> None:
    path, short = tmp_path / "node.key", tmp_path / "short"
    short.write_bytes(os.urandom(31))
    short.chmod(0o600)
    for how in (
        {},
        {"passphrase": "eleven char"},
        {"passphrase": ""},
        {"passphrase": "\ud800" * 20},
        {"key_file": short},
        {"passphrase": PHRASE, "key_file": short},
        {"passphrase": PHRASE, "cost": 14},
        {"passphrase": PHRASE, "cost": 18},
    ):
        with pytest.raises(PayloadError):
            save_identity(path, NODE, **how)  # type: ignore[arg-type]
    assert not path.exists()


def locked_anew(path: Path, header: dict[str, object], plain: dict[str, object]) -> None:
    """What somebody who knows the passphrase could write."""
    packed = cbor2.dumps(header, canonical=True)
    key = hashlib.scrypt(
        PHRASE.encode(), salt=header["salt"], n=2**15, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    locked = AESGCM(key).encrypt(header["nonce"], cbor2.dumps(plain, canonical=True), packed)
    path.write_bytes(cbor2.dumps([packed, locked], canonical=True))


def test_keys_that_do_not_belong_together_are_told(path: Path) -> None:
    header = cbor2.loads(cbor2.loads(path.read_bytes())[0])
    plain = {
        "signing": NODE.signing.secret,
        "sealing": NODE.sealing.seed,
        "description": NODE.description.to_bytes(),
    }
    locked_anew(path, header | {"provider": "hsm"}, plain)
    assert reason(path) is Refusal.PROVIDER
    locked_anew(path, header, plain | {"sealing": OTHER.sealing.seed})
    assert reason(path) is Refusal.DAMAGED
    locked_anew(path, header, plain | {"description": OTHER.description.to_bytes()})
    assert reason(path) is Refusal.DAMAGED
    longer = replace(NODE.description, not_after=NODE.description.not_after + 1)
    locked_anew(path, header, plain | {"description": longer.to_bytes()})
    assert reason(path) is Refusal.SIGNATURE
    locked_anew(path, header, plain)
    assert load_identity(path, passphrase=PHRASE).did == NODE.did
