"""One provider's work read by the other, and which of them is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfl.crypto import liboqs, provider_oqs
from qfl.crypto.algorithms import KEMS, SIGNATURES
from qfl.crypto.kems import encapsulate, generate_kem_key, load_kem_key
from qfl.crypto.signatures import generate_signing_key, load_signing_key, verify
from qfl.errors import ConfigError, MissingDependencyError, SignatureError

ML_DSA = [name for name in SIGNATURES if name.startswith("ML-DSA")]


@pytest.fixture
def without_liboqs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(liboqs.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_the_other_provider_verifies(crossing: tuple[str, str], algorithm: str) -> None:
    maker, checker = crossing
    key = generate_signing_key(algorithm, maker)
    for message, context in ((b"", b""), (b"update", b"run 1"), (bytes(10_000), bytes(255))):
        signature = key.sign(message, context)
        verify(algorithm, key.public, message, signature, context, checker)
        with pytest.raises(SignatureError):
            verify(algorithm, key.public, message + b"\0", signature, context, checker)


@pytest.mark.parametrize("algorithm", KEMS)
def test_the_other_provider_opens(crossing: tuple[str, str], algorithm: str) -> None:
    sender, receiver = crossing
    key = generate_kem_key(algorithm, receiver)
    shared, ciphertext = encapsulate(algorithm, key.public, sender)
    assert key.decapsulate(ciphertext) == shared
    elsewhere = load_kem_key(algorithm, sender, key.secret)
    assert elsewhere.public == key.public
    assert elsewhere.decapsulate(ciphertext) == shared


def test_liboqs_is_preferred(oqs: str) -> None:
    assert generate_signing_key().provider == oqs
    assert generate_kem_key().provider == oqs


@pytest.mark.usefixtures("oqs")
def test_what_a_small_liboqs_lacks_comes_from_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liboqs.load(), "get_enabled_sig_mechanisms", lambda: ("ML-DSA-44",))
    assert generate_signing_key("ML-DSA-44").provider == "oqs"
    assert generate_signing_key("ML-DSA-65").provider == "cryptography"
    with pytest.raises(
        MissingDependencyError, match=r"^ML-DSA-65 is not available: liboqs was built without it"
    ):
        generate_signing_key("ML-DSA-65", "oqs")


@pytest.mark.usefixtures("without_liboqs")
def test_without_liboqs_cryptography_serves() -> None:
    assert generate_signing_key().provider == "cryptography"
    assert generate_kem_key().provider == "cryptography"
    message = (
        r"is not available: liboqs is not installed; build liboqs \d+\.\d+ as a shared library "
        "and set OQS_INSTALL_PATH to its prefix$"
    )
    for algorithm, provider in (("ML-DSA-65", "oqs"), ("SLH-DSA-SHA2-192s", "auto")):
        with pytest.raises(MissingDependencyError, match=f"^{algorithm} {message}"):
            generate_signing_key(algorithm, provider)
    with pytest.raises(MissingDependencyError, match=f"^ML-KEM-768 {message}"):
        generate_kem_key(provider="oqs")


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_private_key_belongs_to_its_provider(algorithm: str) -> None:
    known = SIGNATURES[algorithm]
    for maker, other in (("oqs", "cryptography"), ("cryptography", "oqs")):
        message = (
            f"^this private key of {algorithm} was made by provider {maker}, and provider {other} "
            f"cannot read it; use provider {maker}, or make a new key$"
        )
        with pytest.raises(ConfigError, match=message):
            load_signing_key(algorithm, other, bytes(known.secret_bytes[maker]))
    with pytest.raises(ConfigError, match=r"provider's name \(oqs or cryptography\), not auto$"):
        load_signing_key(algorithm, "auto", bytes(32))


def test_names_that_do_not_go_together_are_refused() -> None:
    slh = "SLH-DSA-SHA2-192s"
    for provider, message in (
        ("openssl", "^unknown provider 'openssl'. Known: auto, cryptography, oqs$"),
        ("cryptography", f"^provider cryptography does not have {slh}; provider oqs has$"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate_signing_key(slh, provider)
        with pytest.raises(ConfigError, match=message):
            load_signing_key(slh, provider, bytes(144))
        with pytest.raises(ConfigError, match=message):
            verify(slh, bytes(48), b"", bytes(16224), provider=provider)


def test_what_has_no_standard_is_used_only_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^Falcon-padded-512 has no final standard.* oqs is nam"):
        generate_signing_key("Falcon-padded-512")


def test_an_import_that_fails_means_that_oqs_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingDependencyError("no")

    monkeypatch.setattr(liboqs, "load", missing)
    assert not provider_oqs.has(SIGNATURES["ML-DSA-65"])
