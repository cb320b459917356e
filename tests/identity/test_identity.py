"""Identities: what an identifier is, what descriptions are refused for, where secrets stay."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import pickle
import re
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from qfl.crypto.sealing import SealingKey, seal
from qfl.crypto.signatures import generate_signing_key
from qfl.errors import PayloadError
from qfl.identity.description import DESCRIPTION, PREFIX, ROLES, Description, check_did, did_of
from qfl.identity.identity import DAY, LEEWAY, Identity
from qfl.identity.refusal import Refusal, RefusedError

NOW = 1_800_000_000
NODE, OTHER = Identity.create(["client"], now=NOW), Identity.create(["client"], now=NOW)


def reason(description: Description, now: float = NOW) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        description.verify(now)
    return caught.value.reason


def with_body(changes: dict[str, Any], key: Identity = NODE) -> bytes:
    """A description with other fields, signed anew."""
    body = cbor2.loads(NODE.description.body) | changes
    packed = cbor2.dumps({k: v for k, v in body.items() if v is not None}, canonical=True)
    outer = {
        "kind": "description",
        "version": 1,
        "body": packed,
        "signatures": [key.sign(packed, DESCRIPTION.context)],
    }
    return cbor2.dumps(outer, canonical=True)


def test_an_identifier_is_the_digest_of_algorithm_and_key() -> None:
    # Written by hand: an array of two texts and a byte string, with their lengths.
    algorithm, public = b"ML-DSA-65", NODE.public
    item = b"\x83" + b"\x67qfl did" + b"\x69" + algorithm + b"\x59\x07\xa0" + public
    digest = base64.b32encode(hashlib.sha256(item).digest()).decode()
    assert NODE.did == "did:qfl:" + digest.rstrip("=").lower()
    assert len(NODE.did) == len(PREFIX) + 52
    assert did_of("ML-DSA-65", public) != did_of("ML-DSA-87", public)


@pytest.mark.parametrize(
    "text",
    [
        "",
        NODE.did.upper(),
        NODE.did[:-1],
        NODE.did + "a",
        NODE.did + "\n",
        "did:web:" + NODE.did[8:],
        NODE.did[:-1] + "b",  # its last bits would be lost: another text for the same digest
        NODE.did[:-2] + "1a",
        NODE.did[:-2] + "\u0660a",
    ],
    ids=range(9),  # workers collect tests each with a key of its own
)
def test_no_other_text_is_an_identifier(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_did(text)
    assert caught.value.reason is Refusal.DID
    check_did(NODE.did)


def test_a_description_says_what_it_was_made_of() -> None:
    description = Description.from_bytes(NODE.description.to_bytes())
    assert description == NODE.description
    assert (description.did, description.algorithm) == (NODE.did, "ML-DSA-65")
    assert (description.public, description.sealing) == (NODE.public, NODE.sealing.public)
    assert description.roles == ("client",)
    assert (description.not_before, description.not_after) == (NOW - LEEWAY, NOW + 365 * DAY)
    assert NODE.open(seal(b"share", description.sealing, b"x"), b"x") == b"share"


def test_validity_has_a_beginning_and_an_end() -> None:
    description = NODE.description
    for now in (NOW - LEEWAY, NOW, NOW + 365 * DAY - 0.001):
        description.verify(now)
    assert reason(description, NOW - LEEWAY - 0.001) is Refusal.NOT_YET_VALID
    assert reason(description, NOW + 365 * DAY) is Refusal.EXPIRED
    assert reason(description, math.nan) is Refusal.NOT_YET_VALID
    assert reason(description, math.inf) is Refusal.EXPIRED
    assert reason(description, -math.inf) is Refusal.NOT_YET_VALID


def test_what_is_not_signed_by_its_own_key_is_refused() -> None:
    body = NODE.description.body
    assert reason(replace(NODE.description, signature=b"")) is Refusal.NOT_SIGNED
    for signature in (
        OTHER.sign(body, DESCRIPTION.context),
        NODE.sign(body, b"qfl description 2"),
        NODE.sign(body + b"x", DESCRIPTION.context),
        NODE.description.signature[:-1],
        b"x",
    ):
        assert reason(replace(NODE.description, signature=signature)) is Refusal.SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"not_after": NOW + 9999 * DAY},
        {"not_before": 0},
        {"roles": ("client", "server")},
        {"sealing": OTHER.sealing.public},
        {"previous": OTHER.did},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_field_can_be_changed_afterwards(change: dict[str, Any]) -> None:
    assert reason(replace(NODE.description, **change)) is Refusal.SIGNATURE


def test_another_key_has_another_identifier() -> None:
    assert reason(replace(NODE.description, public=OTHER.public)) is Refusal.SIGNATURE
    for data in (with_body({"did": OTHER.did}), with_body({"public": OTHER.public})):
        with pytest.raises(RefusedError, match="key's identifier is") as caught:
            Description.from_bytes(data)
        assert caught.value.reason is Refusal.DID


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RSA-2048", "unknown signature algorithm"),
        ("Dilithium3", "use ML-DSA-65"),
        ("ML-DSA-65 ", "unknown"),
        ("Falcon-padded-512", "unknown"),  # its standard is not final
        ("", "unknown"),
    ],
)
def test_an_algorithm_that_is_not_taken_is_refused(name: str, told: str) -> None:
    strange = replace(NODE.description, algorithm=name)
    assert reason(strange) is Refusal.ALGORITHM
    with pytest.raises(RefusedError, match=told):
        strange.verify(NOW)
    with pytest.raises(RefusedError, match=told):
        Identity.create(["client"], algorithm=name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"roles": ["admin"]}, Refusal.ROLE),
        ({"roles": []}, Refusal.ROLE),
        ({"roles": ["server", "client"]}, Refusal.ROLE),
        ({"roles": ["client", "client"]}, Refusal.ROLE),
        ({"roles": "client"}, Refusal.DAMAGED),
        ({"roles": [1]}, Refusal.DAMAGED),
        ({"not_before": NOW, "not_after": NOW}, Refusal.EXPIRED),
        ({"not_after": -1}, Refusal.DAMAGED),
        ({"not_after": 1.5}, Refusal.DAMAGED),
        ({"sealing": bytes(32)}, Refusal.DAMAGED),
        ({"sealing": "text"}, Refusal.DAMAGED),
        ({"more": 1}, Refusal.DAMAGED),
        ({"roles": None}, Refusal.DAMAGED),
        ({"previous": "did:qfl:x"}, Refusal.NOT_SIGNED),
        ({"algorithm": "x" * 300}, Refusal.DAMAGED),
    ],
)
def test_fields_that_cannot_be_are_refused(changes: dict[str, Any], expected: Refusal) -> None:
    with pytest.raises(RefusedError) as caught:
        Description.from_bytes(with_body(changes))
    assert caught.value.reason is expected


def test_a_description_that_replaces_nothing_does_not_say_so() -> None:
    outer = cbor2.loads(with_body({"previous": ""}))
    outer["signatures"] *= 2
    with pytest.raises(RefusedError, match="not in its one form"):
        Description.from_bytes(cbor2.dumps(outer, canonical=True))


def test_kind_and_version_are_looked_at_first() -> None:
    outer = cbor2.loads(NODE.description.to_bytes())
    for changes, expected in (
        ({"version": 2}, Refusal.VERSION),
        ({"kind": "revocation list"}, Refusal.DAMAGED),
        ({"signatures": []}, Refusal.NOT_SIGNED),
        ({"signatures": [b""]}, Refusal.NOT_SIGNED),
        ({"signatures": [b"1", b"2", b"3"]}, Refusal.DAMAGED),
    ):
        with pytest.raises(RefusedError) as caught:
            Description.from_bytes(cbor2.dumps(outer | changes, canonical=True))
        assert caught.value.reason is expected


@pytest.mark.parametrize("algorithm", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_any_final_standard_will_do(algorithm: str) -> None:
    node = Identity.create(ROLES, algorithm=algorithm, now=NOW)
    found = Description.from_bytes(node.description.to_bytes())
    found.verify(NOW)
    assert (found.algorithm, found.roles, node.algorithm) == (algorithm, ROLES, algorithm)


def test_roles_are_put_in_order_and_unknown_ones_refused() -> None:
    assert Identity.create(["server", "client", "client"]).description.roles == ("client", "server")
    with pytest.raises(RefusedError, match="did you mean 'client'"):
        Identity.create(["clinet"])
    with pytest.raises(RefusedError, match="at least one"):
        Identity.create([])


def test_keys_and_description_must_belong_together() -> None:
    with pytest.raises(PayloadError, match="not of these keys"):
        Identity(generate_signing_key(), NODE.sealing, NODE.description)
    with pytest.raises(PayloadError, match="not of these keys"):
        Identity(NODE.signing, SealingKey(), NODE.description)


def test_secrets_are_in_no_text_and_no_pickle() -> None:
    secrets = [NODE.signing.secret, NODE.sealing.seed]
    for text in (
        repr(NODE),
        str(NODE),
        repr(vars(NODE)),
        f"{NODE.signing}",
        repr(NODE.description),
    ):
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    assert repr(NODE) == f"Identity(did={NODE.did!r})"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            attempt(NODE)


def test_messages_carry_no_control_characters_of_hostile_names() -> None:
    hostile = "\x1b[31m\r\nclient"
    with pytest.raises(RefusedError) as caught:
        Description.from_bytes(with_body({"roles": [hostile]}))
    assert re.fullmatch(r"[\x20-\x7e]+", str(caught.value))
