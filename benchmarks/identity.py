"""What signed and sealed envelopes cost, beside AES-GCM alone and beside classical cryptography.

The classical peer signs with ECDSA on P-256 and seals with X25519, HKDF and AES-256-GCM, as TLS
does. With liboqs at hand both providers are measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from common import Row, report
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qfl.crypto import liboqs
from qfl.identity import (
    Expected,
    Identity,
    Place,
    Registry,
    ReplayGuard,
    open_envelope,
    seal_envelope,
)

SIZES = {"1 KB": 1 << 10, "1 MB": 1 << 20, "50 MB": 50 << 20}
PLACE = Place(run="benchmark", round=1, step="train")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without 50 MB")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    providers = ["cryptography", *(["oqs"] if liboqs.problem() is None else [])]
    rows = [
        row
        for name, size in SIZES.items()
        if not (quick and name == "50 MB")
        for row in beside(name, os.urandom(size), providers)
    ]
    report("identity", rows, [True] * len(rows))


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
