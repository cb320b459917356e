"""Names, code points and lengths, worked out from the standards' parameters."""

from __future__ import annotations

import math

import pytest

from qfl.crypto import liboqs
from qfl.crypto.algorithms import KEMS, SIGNATURES, kem_algorithm, signature_algorithm
from qfl.errors import ConfigError

# FIPS 204, table 1: k, l, lambda, bits of 2 gamma_1, bits of 2 eta, omega.
ML_DSA = {
    "ML-DSA-44": (4, 4, 128, 18, 3, 80),
    "ML-DSA-65": (6, 5, 192, 20, 4, 55),
    "ML-DSA-87": (8, 7, 256, 20, 3, 75),
}
# FIPS 205, table 2: n, h, d, a, k.
SLH_DSA = {
    "128s": (16, 63, 7, 12, 14),
    "128f": (16, 66, 22, 6, 33),
    "192s": (24, 63, 7, 14, 17),
    "192f": (24, 66, 22, 8, 33),
    "256s": (32, 64, 8, 14, 22),
    "256f": (32, 68, 17, 9, 35),
}
# FIPS 203, table 2: k, d_u, d_v.
ML_KEM = {"ML-KEM-768": (3, 10, 4), "ML-KEM-1024": (4, 11, 5)}


@pytest.mark.parametrize("name", ML_DSA)
def test_lengths_of_ml_dsa(name: str) -> None:
    k, columns, strength, bits, noise, hints = ML_DSA[name]
    algorithm = signature_algorithm(name)
    public = 32 + 32 * k * 10
    expanded = 32 + 32 + 64 + 32 * ((columns + k) * noise + 13 * k)
    assert algorithm.public_bytes == public
    assert algorithm.secret_bytes == {"oqs": expanded + public, "cryptography": 32}
    assert algorithm.signature_bytes == strength // 4 + 32 * columns * bits + hints + k


@pytest.mark.parametrize("hashed", ["SHA2", "SHAKE"])
@pytest.mark.parametrize("size", SLH_DSA)
def test_lengths_of_slh_dsa(hashed: str, size: str) -> None:
    n, height, layers, a, k = SLH_DSA[size]
    algorithm = signature_algorithm(f"SLH-DSA-{hashed}-{size}")
    chains = 2 * n + math.floor(math.log2(2 * n * 15) / 4) + 1
    assert algorithm.public_bytes == 2 * n
    assert algorithm.secret_bytes == {"oqs": 4 * n + 2 * n}
    assert algorithm.signature_bytes == (1 + k * (1 + a) + height + layers * chains) * n


@pytest.mark.parametrize("name", ML_KEM)
def test_lengths_of_ml_kem(name: str) -> None:
    k, u, v = ML_KEM[name]
    algorithm = kem_algorithm(name)
    assert algorithm.public_bytes == 384 * k + 32
    assert algorithm.ciphertext_bytes == 32 * (u * k + v)
    assert set(algorithm.secret_bytes.values()) == {32 + 32}


def test_code_points_are_the_registered_ones() -> None:
    listed = {
        one.name: (one.oid, one.tls, one.level)
        for one in (*SIGNATURES.values(), *KEMS.values())
        if one.standard
    }
    nist = "2.16.840.1.101.3.4"
    assert listed["ML-DSA-44"] == (f"{nist}.3.17", 0x0904, 2)
    assert listed["ML-DSA-65"] == (f"{nist}.3.18", 0x0905, 3)
    assert listed["ML-DSA-87"] == (f"{nist}.3.19", 0x0906, 5)
    assert listed["SLH-DSA-SHA2-128s"] == (f"{nist}.3.20", None, 1)
    assert listed["SLH-DSA-SHA2-256f"] == (f"{nist}.3.25", None, 5)
    assert listed["SLH-DSA-SHAKE-128s"] == (f"{nist}.3.26", None, 1)
    assert listed["SLH-DSA-SHAKE-256f"] == (f"{nist}.3.31", None, 5)
    assert listed["ML-KEM-768"] == (f"{nist}.4.2", 0x0201, 3)
    assert listed["ML-KEM-1024"] == (f"{nist}.4.3", 0x0202, 5)
    assert len(listed) == len({oid for oid, _, _ in listed.values()}) == 3 + 12 + 2


@pytest.mark.usefixtures("oqs")
def test_liboqs_has_the_same_lengths() -> None:
    oqs = liboqs.load()
    for signature in SIGNATURES.values():
        if signature.liboqs in oqs.get_enabled_sig_mechanisms():
            with oqs.Signature(signature.liboqs) as made:
                lengths = made.details
            assert lengths["length_public_key"] == signature.public_bytes
            assert lengths["length_signature"] == signature.signature_bytes
            both = lengths["length_secret_key"] + lengths["length_public_key"]
            assert both == signature.secret_bytes["oqs"]
    for kem in KEMS.values():
        if kem.liboqs in oqs.get_enabled_kem_mechanisms():
            with oqs.KeyEncapsulation(kem.liboqs) as made:
                lengths = made.details
            assert lengths["length_public_key"] == kem.public_bytes
            assert lengths["length_ciphertext"] == kem.ciphertext_bytes
            assert lengths["length_keypair_seed"] == kem.secret_bytes["oqs"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SIKE-p434", "broken: Castryck and Decru (2022)"),
        ("sidh-p751", "broken: Castryck and Decru (2022)"),
        ("Rainbow-III-Classic", "broken: Beullens (2022)"),
        ("Kyber768", "a draft of FIPS 203 with other bytes; use ML-KEM-768"),
        ("Dilithium3", "a draft of FIPS 204 with other bytes; use ML-DSA-65"),
        ("SPHINCS+-SHA2-128s-simple", "a draft of FIPS 205 with other bytes; use SLH-DSA"),
    ],
)
def test_broken_and_draft_algorithms_are_refused_with_the_reason(name: str, reason: str) -> None:
    for find in (signature_algorithm, kem_algorithm):
        with pytest.raises(ConfigError) as told:
            find(name)
        assert str(told.value).startswith(f"{name} is refused: it is {reason}")


def test_unknown_names_come_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^unknown signature 'ML-DSA-66'; did you mean 'ML-DSA-"):
        signature_algorithm("ML-DSA-66")
    with pytest.raises(ConfigError, match=r"Known: ML-KEM-1024, ML-KEM-768$"):
        kem_algorithm("ML-DSA-65")
