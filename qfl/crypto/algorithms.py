"""Post-quantum algorithms by role, under the names and code points of their standards.

Signatures: ML-DSA (FIPS 204), SLH-DSA (FIPS 205). Key encapsulation: ML-KEM (FIPS 203). Object
identifiers are NIST's, code points of TLS are from IANA.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from qfl.errors import ConfigError, unknown_name

CONTEXT_BYTES = 255
SEED_BYTES = 64  # d and z of FIPS 203
SHARED_BYTES = 32

_NIST = "2.16.840.1.101.3.4"


@dataclass(frozen=True)
class Algorithm:
    """What both roles have.

    Attributes:
        name: As its standard names it.
        standard: Unset where none is final; such an algorithm is used only with a provider named.
        level: NIST's category of strength, 1 to 5.
        oid: Object identifier, where there is one.
        tls: SignatureScheme or NamedGroup of TLS, where there is one.
        public_bytes: Length of a public key.
        secret_bytes: Length of a private key by the provider that made it. Other providers do not
            have the algorithm.
        liboqs: Its name in liboqs.
    """

    name: str
    standard: str | None
    level: int
    oid: str | None
    tls: int | None
    public_bytes: int
    secret_bytes: Mapping[str, int]
    liboqs: str


@dataclass(frozen=True)
class SignatureAlgorithm(Algorithm):
    """Signs messages.

    Attributes:
        signature_bytes: Length of a signature.
    """

    signature_bytes: int


@dataclass(frozen=True)
class KemAlgorithm(Algorithm):
    """Makes and encapsulates keys of 32 bytes.

    Attributes:
        ciphertext_bytes: Length of a ciphertext.
    """

    ciphertext_bytes: int


def _ml_dsa() -> Iterable[SignatureAlgorithm]:
    for at, (size, level, public, expanded, signature) in enumerate(
        [(44, 2, 1312, 2560, 2420), (65, 3, 1952, 4032, 3309), (87, 5, 2592, 4896, 4627)]
    ):
        name, oid = f"ML-DSA-{size}", f"{_NIST}.3.{17 + at}"
        # liboqs gives the expanded key, which lacks the public one; cryptography gives the seed.
        secret = {"oqs": expanded + public, "cryptography": 32}
        yield SignatureAlgorithm(
            name, "FIPS 204", level, oid, 0x0904 + at, public, secret, name, signature
        )


def _slh_dsa() -> Iterable[SignatureAlgorithm]:
    sizes = [("128s", 7856), ("128f", 17088), ("192s", 16224), ("192f", 35664),
             ("256s", 29792), ("256f", 49856)]  # fmt: skip
    for at, (hashed, (size, signature)) in enumerate(product(("SHA2", "SHAKE"), sizes)):
        bits = int(size[:3])
        public, level = bits // 4, {128: 1, 192: 3, 256: 5}[bits]
        yield SignatureAlgorithm(
            f"SLH-DSA-{hashed}-{size}",
            "FIPS 205",
            level,
            f"{_NIST}.3.{20 + at}",
            None,
            public,
            {"oqs": 3 * public},
            f"SLH_DSA_PURE_{hashed}_{size.upper()}",
            signature,
        )


def _falcon() -> Iterable[SignatureAlgorithm]:
    for size, level, public, secret, signature in [
        (512, 1, 897, 1281, 666),
        (1024, 5, 1793, 2305, 1280),
    ]:
        name = f"Falcon-padded-{size}"
        yield SignatureAlgorithm(
            name, None, level, None, None, public, {"oqs": secret + public}, name, signature
        )


def _ml_kem() -> Iterable[KemAlgorithm]:
    for at, (size, level, public, ciphertext) in enumerate(
        [(768, 3, 1184, 1088), (1024, 5, 1568, 1568)]
    ):
        name, oid = f"ML-KEM-{size}", f"{_NIST}.4.{2 + at}"
        secret = {"oqs": SEED_BYTES, "cryptography": SEED_BYTES}
        yield KemAlgorithm(
            name, "FIPS 203", level, oid, 0x0201 + at, public, secret, name, ciphertext
        )


SIGNATURES = {one.name: one for one in (*_ml_dsa(), *_slh_dsa(), *_falcon())}
KEMS = {one.name: one for one in _ml_kem()}

_REFUSED = {
    "SIKE": "it is broken: Castryck and Decru (2022) find a key within a day on one core",
    "SIDH": "it is broken: Castryck and Decru (2022) find a key within a day on one core",
    "RAINBOW": "it is broken: Beullens (2022) finds a key in a weekend on a laptop",
    "KYBER": "it is a draft of FIPS 203 with other bytes; use ML-KEM-768",
    "DILITHIUM": "it is a draft of FIPS 204 with other bytes; use ML-DSA-65",
    "SPHINCS": "it is a draft of FIPS 205 with other bytes; use SLH-DSA-SHA2-192s",
}


def signature_algorithm(name: str) -> SignatureAlgorithm:
    """The signature of this name.

    Raises:
        ConfigError: There is none, or it is refused.

    Example:
        >>> signature_algorithm("ML-DSA-65").signature_bytes
        3309
    """
    if name not in SIGNATURES:
        raise ConfigError(refuse(name, "signature", SIGNATURES))
    return SIGNATURES[name]


def kem_algorithm(name: str) -> KemAlgorithm:
    """The key encapsulation of this name.

    Raises:
        ConfigError: There is none, or it is refused.
    """
    if name not in KEMS:
        raise ConfigError(refuse(name, "key encapsulation", KEMS))
    return KEMS[name]


def refuse(name: str, role: str, known: Iterable[str]) -> str:
    """Why a name is not taken.

    Args:
        name: What was asked for.
        role: What it should do.
        known: Names that are taken.

    Example:
        >>> refuse("Kyber768", "key encapsulation", KEMS)
        'Kyber768 is refused: it is a draft of FIPS 203 with other bytes; use ML-KEM-768'
    """
    for start, reason in _REFUSED.items():
        if name.upper().startswith(start):
            return f"{name} is refused: {reason}"
    return unknown_name(role, name, known)
