"""Which providers are here, and the standards' vectors."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qfl.crypto import liboqs

NO_OQS = pytest.mark.skipif(liboqs.problem() is not None, reason=str(liboqs.problem()))
OQS = pytest.param("oqs", marks=NO_OQS)


@pytest.fixture(scope="session", params=["cryptography", OQS])
def provider(request: pytest.FixtureRequest) -> str:
    """Each provider; ``oqs`` only where liboqs is installed."""
    return str(request.param)


@pytest.fixture(scope="session", params=[OQS])
def oqs(request: pytest.FixtureRequest) -> str:
    """Only where liboqs is installed."""
    return str(request.param)


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(pair, marks=NO_OQS, id=" to ".join(pair))
        for pair in (("oqs", "cryptography"), ("cryptography", "oqs"))
    ],
)
def crossing(request: pytest.FixtureRequest) -> tuple[str, str]:
    """One provider, and the other."""
    maker, reader = request.param
    return str(maker), str(reader)


@pytest.fixture(scope="session")
def vectors() -> Callable[[str, str], list[dict[str, bytes]]]:
    """The known answers of one algorithm: ``signatures`` or ``kems``, then its name."""
    known: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())

    def of(role: str, algorithm: str) -> list[dict[str, bytes]]:
        found = [
            {
                name: bytes.fromhex(value) if name == "public_sha256" else b64decode(value)
                for name, value in case.items()
                if name not in ("algorithm", "case")
            }
            for case in known[role]
            if case["algorithm"] == algorithm
        ]
        assert len(found) == 2
        return found

    return of
