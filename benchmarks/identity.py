"""What identities cost: envelopes beside AES-GCM and classical cryptography, rounds, audit, keys.

The classical peer signs with ECDSA on P-256 and seals with X25519, HKDF and AES-256-GCM, as TLS
does. With liboqs at hand both providers are measured.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import identity_round
from common import Row, report
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qfl.crypto import liboqs
from qfl.identity import (
    AuditChain,
    Expected,
    Identity,
    Place,
    Registry,
    ReplayGuard,
    load_identity,
    open_envelope,
    save_identity,
    seal_envelope,
)
from qfl.identity.audit_check import examine

SIZES = {"1 KB": 1 << 10, "1 MB": 1 << 20, "50 MB": 50 << 20}
PLACE = Place(run="benchmark", round=1, step="train")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without 50 MB; 10 clients")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    providers = ["cryptography", *(["oqs"] if liboqs.problem() is None else [])]
    rows = [
        row
        for name, size in SIZES.items()
        if not (quick and name == "50 MB")
        for row in beside(name, os.urandom(size), providers)
    ]
    rows += [*audit_rows(), *key_file_rows()]
    rounds, met = identity_round.measure(quick)
    report("identity", [*rows, *rounds], [*(True for _ in rows), *met])


def audit_rows(records: int = 50) -> list[Row]:
    """A line of the audit trail: made and signed, checked; and how long it is."""
    chain = AuditChain()
    lines, taken = [], []
    first = chain.start()
    chain.take(first)
    for round in range(records):
        began = time.process_time()
        line = chain.line("round_finished", {"round": round, "clients": 10, "model": 64 * "0"})
        taken.append(1000 * (time.process_time() - began))
        chain.take(line)
        lines.append(line)
    trail = b"".join([first, *lines])
    began = time.process_time()
    assert examine(trail).flaw is None
    checked = 1000 * (time.process_time() - began) / (records + 1)
    size = statistics.median(map(len, lines))
    return [
        Row("audit record, sign", "CPU time", "ms", statistics.median(taken), "", None, ""),
        Row("audit record, verify", "CPU time", "ms", checked, "", None, ""),
        Row("audit record", "size", "bytes", size, "", None, ""),
    ]


def key_file_rows() -> list[Row]:
    """An identity written under a passphrase, and read again."""
    identity, rows = Identity.create(["client"], provider="cryptography"), []
    phrase = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        for cost in (15, 17):
            path = Path(folder) / f"{cost}.key"
            began = time.process_time()
            save_identity(path, identity, passphrase=phrase, cost=cost)
            saved = 1000 * (time.process_time() - began)
            began = time.process_time()
            load_identity(path, passphrase=phrase)
            loaded = 1000 * (time.process_time() - began)
            case = f"key file, scrypt N = 2^{cost}"
            rows.append(Row(f"{case}, save", "CPU time", "ms", saved, "", None, ""))
            rows.append(Row(f"{case}, load", "CPU time", "ms", loaded, "", None, ""))
    return rows


def beside(name: str, payload: bytes, providers: list[str]) -> list[Row]:
    """Sending and opening one payload, interleaved with the peers."""
    turns = 5 if len(payload) > 1 << 20 else 31
    send: dict[str, Callable[[], object]] = {
        "AES-GCM": lambda: aes_gcm(payload),
        "ECDSA, X25519": Classical(payload).send,
    }
    receive: dict[str, Callable[[], object]] = {"ECDSA, X25519": Classical(payload).receive}
    for provider in providers:
        envelope = Enveloped(payload, provider)
        send[provider], receive[provider] = envelope.send, envelope.receive
    rows = []
    for what, contenders in (("sign and seal", send), ("open and verify", receive)):
        taken = interleaved(contenders, turns)
        peers = [peer for peer in taken if peer not in providers]
        rows += [
            Row(f"{name}, {what}, {ours}", "CPU time", "ms", taken[ours], peer, taken[peer], "")
            for ours in providers
            for peer in peers
        ]
    return rows


def interleaved(contenders: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            taken[name].append(1000 * (time.process_time() - began))
    return {name: statistics.median(times) for name, times in taken.items()}


def aes_gcm(payload: bytes) -> bytes:
    """Encryption alone, for a receiver who has the key."""
    nonce = os.urandom(12)
    return nonce + AESGCM(os.urandom(32)).encrypt(nonce, payload, None)


class Enveloped:
    """Our envelope, from one node to another."""

    def __init__(self, payload: bytes, provider: str) -> None:
        self.payload = payload
        self.node = Identity.create(["client"], provider=provider)
        self.server = Identity.create(["server"], provider=provider)
        self.registry = Registry({self.node.did: ["client"]})
        self.registry.admit([self.node.description])
        self.message = self.send()

    def send(self) -> bytes:
        """Sign and seal."""
        return seal_envelope(self.payload, self.node, PLACE, [self.server.description])

    def receive(self) -> None:
        """Open and verify."""
        _, payload = open_envelope(
            self.message,
            Expected(PLACE, role="client"),
            self.registry,
            time.time(),
            identity=self.server,
            guard=ReplayGuard(),
        )
        assert payload == self.payload


class Classical:
    """The same work by algorithms that a quantum computer breaks."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.signing, self.sealing = (
            ec.generate_private_key(ec.SECP256R1()),
            X25519PrivateKey.generate(),
        )
        self.message = self.send()

    def send(self) -> tuple[bytes, bytes, X25519PrivateKey]:
        """Sign and seal."""
        signature = self.signing.sign(self.payload, ec.ECDSA(SHA256()))
        fresh = X25519PrivateKey.generate()
        key = self._key(fresh.exchange(self.sealing.public_key()))
        return AESGCM(key).encrypt(bytes(12), self.payload, None), signature, fresh

    def receive(self) -> None:
        """Open and verify."""
        sealed, signature, fresh = self.message
        key = self._key(self.sealing.exchange(fresh.public_key()))
        payload = AESGCM(key).decrypt(bytes(12), sealed, None)
        self.signing.public_key().verify(signature, payload, ec.ECDSA(SHA256()))

    @staticmethod
    def _key(shared: bytes) -> bytes:
        return HKDF(SHA256(), 32, None, b"benchmark").derive(shared)


if __name__ == "__main__":
    main()
