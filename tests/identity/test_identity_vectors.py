"""Bytes that were written once and must be read, and written, the same for ever.

``vectors.json`` holds a description, a rotation, a revocation list, two messages, a key file. The
tests read them twice: with qfl, and by hand from what docs/identity.md says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import struct
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qfl.crypto.sealing import SealingKey
from qfl.crypto.signatures import load_signing_key
from qfl.identity.description import Description
from qfl.identity.envelope import Expected, Place
from qfl.identity.identity import Identity, describe
from qfl.identity.key_file import load_identity, save_identity
from qfl.identity.opening import open_envelope
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.revocation import RevocationList, Revoked
from qfl.identity.rotation import verify_chain

VECTORS = {
    name: base64.b64decode(text)
    for name, text in json.loads(Path(__file__).with_name("vectors.json").read_text()).items()
}
NOW = 1_800_000_000
NODE = "did:qfl:qlwytw6bwfyaygt6rty62jk26ba67irgaqwofq7t7smg52usrqpq"
OPERATOR = "did:qfl:5pmt2g3udxfewjykpihn6tamurehkxzj2zb2cydbtjvbvyr22t4q"
SEED = bytes([1]) * 32
OPERATOR_SEAL = SealingKey(bytes([102]) * 32)
PHRASE = "correct horse battery"


def hkdf(key: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(key)


def test_a_description_reads_and_writes_the_same() -> None:
    found = Description.from_bytes(VECTORS["description"])
    found.verify(NOW)
    assert found.to_bytes() == VECTORS["description"]
    assert found.did == NODE
    signing = load_signing_key("ML-DSA-65", "cryptography", SEED)
    again = describe(signing, SealingKey(bytes([101]) * 32), ["key_holder", "client"], now=NOW)
    assert again.body == found.body
    assert hashlib.sha256(found.body).hexdigest() == (
        "d23ca47bd2f8c6f3978b62f2b32e24709f3e8c7ed830a8c206b07d0d652e4eec"
    )


def test_a_description_is_what_the_documentation_says() -> None:
    outer = cbor2.loads(VECTORS["description"])
    body = cbor2.loads(outer["body"])
    public = MLDSA65PrivateKey.from_seed_bytes(SEED).public_key().public_bytes_raw()
    assert {key: outer[key] for key in ("kind", "version")} == {"kind": "description", "version": 1}
    assert body == {
        "did": NODE,
        "algorithm": "ML-DSA-65",
        "public": public,
        "sealing": SealingKey(bytes([101]) * 32).public,
        "roles": ["client", "key_holder"],
        "not_before": NOW - 300,
        "not_after": NOW + 365 * 86_400,
    }
    key = MLDSA65PublicKey.from_public_bytes(public)
    key.verify(outer["signatures"][0], outer["body"], b"qfl description 1")


def test_a_rotation_reads_the_same() -> None:
    chain = [Description.from_bytes(VECTORS[name]) for name in ("description", "rotation")]
    assert verify_chain(chain, NODE, NOW + 1000).previous == NODE
    outer = cbor2.loads(VECTORS["rotation"])
    key = MLDSA65PublicKey.from_public_bytes(chain[0].public)
    key.verify(outer["signatures"][1], outer["body"], b"qfl rotation 1")


def test_a_revocation_list_reads_and_writes_the_same() -> None:
    operator = Description.from_bytes(VECTORS["operator"])
    found = RevocationList.from_bytes(VECTORS["revocations"])
    found.verify(operator, NOW)
    assert found.to_bytes() == VECTORS["revocations"]
    assert found.revoked == (Revoked(NODE, NOW + 5, "lost"),)
    outer = cbor2.loads(VECTORS["revocations"])
    key = MLDSA65PublicKey.from_public_bytes(operator.public)
    key.verify(outer["signatures"][0], outer["body"], b"qfl revocation list 1")


@pytest.mark.parametrize("name", ["sealed", "open"])
def test_a_message_reads_the_same(name: str) -> None:
    signing = load_signing_key("ML-DSA-65", "cryptography", bytes([2]) * 32)
    operator = Description.from_bytes(VECTORS["operator"])
    registry = Registry({NODE: ["client"]})
    registry.admit([Description.from_bytes(VECTORS["description"])])
    place = Place("run-7", 3, "train", 1, "hybrid", "k1")
    head, payload = open_envelope(
        VECTORS[name],
        Expected(place, role="client", sender=NODE, sealed=name == "sealed"),
        registry,
        NOW,
        identity=Identity(signing, OPERATOR_SEAL, operator),
        guard=ReplayGuard(),
    )
    assert payload == b"update"
    assert head.receivers == ((OPERATOR,) if name == "sealed" else ())


def test_a_message_is_what_the_documentation_says() -> None:
    data = VECTORS["sealed"]
    (size,) = struct.unpack(">I", data[4:8])
    front = cbor2.loads(data[8 : 8 + size])
    assert (data[:4], front["version"], front["receivers"]) == (b"qfle", 1, [OPERATOR])
    bound = cbor2.dumps(["qfl envelope 1 key", [OPERATOR], OPERATOR])
    key = OPERATOR_SEAL.open(front["keys"][0], bound)
    outside = cbor2.dumps(["qfl envelope head", 1, [OPERATOR], front["keys"]])
    signed = AESGCM(hkdf(key, b"qfl envelope 1 head")).decrypt(bytes(12), front["head"], outside)
    outer = cbor2.loads(signed)
    head = cbor2.loads(outer["body"])
    assert len(head.pop("id")) == 16
    assert head == {
        "sender": NODE,
        "receivers": [OPERATOR],
        "sealed": 1,
        "length": 6,
        "digest": hashlib.sha256(b"update").digest(),
        "run": "run-7",
        "round": 3,
        "step": "train",
        "attempt": 1,
        "scheme": "hybrid",
        "key_id": "k1",
    }
    info = b"qfl envelope 1 content" + hashlib.sha256(data[: 8 + size]).digest()
    nonce = bytes(11) + b"\x01"
    assert AESGCM(hkdf(key, info)).decrypt(nonce, data[8 + size :], None) == b"update"
    public = MLDSA65PrivateKey.from_seed_bytes(SEED).public_key()
    public.verify(outer["signatures"][0], outer["body"], b"qfl envelope 1")


def test_a_key_file_reads_and_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, again = tmp_path / "node.key", tmp_path / "again.key"
    path.write_bytes(VECTORS["key_file"])
    path.chmod(0o600)
    node = load_identity(path, passphrase=PHRASE)
    assert (node.did, node.signing.secret, node.sealing.seed) == (NODE, SEED, bytes([101]) * 32)
    header = cbor2.loads(cbor2.loads(VECTORS["key_file"])[0])
    key = hashlib.scrypt(
        PHRASE.encode(), salt=header["salt"], n=2**15, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    assert key.hex() == "87fa40e8b6e03122c7368c91c2b15fa3ca5da83838081554d9a02075bd1a7781"
    fixed = {16: header["salt"], 12: header["nonce"]}
    monkeypatch.setattr(secrets, "token_bytes", fixed.__getitem__)
    save_identity(again, node, passphrase=PHRASE, cost=15)
    assert again.read_bytes() == VECTORS["key_file"]
