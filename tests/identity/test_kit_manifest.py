"""Manifests: what they name, what they refuse, and the one form that they have."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import cbor2
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.crypto.signatures import verify
from qfl.errors import PayloadError
from qfl.identity.identity import Identity
from qfl.identity.kit_manifest import MANIFEST, KitManifest, sign_manifest
from qfl.identity.refusal import Refusal, RefusedError

OPERATOR, OTHER = Identity.create(["operator"]), Identity.create(["operator"])
FILES = {"identity.key": b"key", "tls/ca.crt": b"certificate"}
SIGNED = sign_manifest(OPERATOR, "clinics", "clinic-1", FILES, now=1000)


def test_what_is_signed_is_a_list_of_digests() -> None:
    outer = cbor2.loads(SIGNED.to_bytes())
    assert (outer["kind"], outer["version"]) == ("kit manifest", 1)
    assert cbor2.loads(outer["body"]) == {
        "federation": "clinics",
        "name": "clinic-1",
        "issuer": OPERATOR.did,
        "made": 1000,
        "files": [[path, hashlib.sha256(data).digest()] for path, data in FILES.items()],
    }
    (signature,) = outer["signatures"]
    verify("ML-DSA-65", OPERATOR.public, outer["body"], signature, b"qfl kit manifest 1")
    assert KitManifest.from_bytes(SIGNED.to_bytes()) == SIGNED


def test_every_difference_is_named() -> None:
    assert SIGNED.differences(FILES) == []
    changed = {"identity.key": b"Key", "notes.txt": b""}
    assert SIGNED.differences(changed) == [
        "tls/ca.crt is missing",
        "identity.key was changed",
        "notes.txt does not belong to the kit",
    ]


def test_only_the_operator_signs() -> None:
    SIGNED.verify(OPERATOR.description)
    with pytest.raises(RefusedError, match="the operator is did:qfl:") as caught:
        SIGNED.verify(OTHER.description)
    assert caught.value.reason is Refusal.ISSUER
    forged = replace(SIGNED, issuer=OTHER.did)
    with pytest.raises(RefusedError, match="signature on the manifest of kit clinic-1") as caught:
        forged.verify(OTHER.description)
    assert caught.value.reason is Refusal.SIGNATURE
    with pytest.raises(PayloadError, match="has no role operator"):
        sign_manifest(Identity.create(["client"]), "clinics", "clinic-1", FILES)
    # An operator's key in a description without the role counts as nobody's.
    client = Identity.create(["client"])
    mine = replace(SIGNED, issuer=client.did)
    mine = replace(mine, signature=client.sign(mine.body, MANIFEST.context))
    with pytest.raises(RefusedError):
        mine.verify(client.description)


def test_a_signature_on_something_else_is_none() -> None:
    fresh = replace(SIGNED, signature=OPERATOR.sign(SIGNED.body, b"qfl policy 1"))
    with pytest.raises(RefusedError) as caught:
        fresh.verify(OPERATOR.description)
    assert caught.value.reason is Refusal.SIGNATURE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SIGNED.to_bytes()) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, by: int) -> None:
    data = bytearray(SIGNED.to_bytes())
    data[at] ^= by
    with pytest.raises(RefusedError):
        KitManifest.from_bytes(bytes(data)).verify(OPERATOR.description)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../a", "a/../b", "a/b/c", "A", ".hidden", "a//b", "a\n", "a/", "a" * 65],
    ids=range(11),
)
def test_no_path_leads_out_of_the_kit(path: str) -> None:
    with pytest.raises(RefusedError) as caught:
        sign_manifest(OPERATOR, "clinics", "clinic-1", {path: b""})
    assert caught.value.reason is Refusal.DAMAGED


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"a": bytes(31)}},
        {"files": {f"f{n}": bytes(32) for n in range(65)}},
        {"name": "../b"},
        {"federation": ""},
        {"issuer": "did:qfl:me"},
    ],
    ids=["digest", "many", "name", "federation", "issuer"],
)
def test_fields_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        replace(SIGNED, **changes)


def test_files_have_one_order() -> None:
    body = cbor2.loads(SIGNED.body)
    body["files"].reverse()
    raw = cbor2.dumps(body, canonical=True)
    outer = cbor2.loads(SIGNED.to_bytes()) | {"body": raw}
    with pytest.raises(RefusedError, match="not in its one form"):
        KitManifest.from_bytes(cbor2.dumps(outer, canonical=True))
