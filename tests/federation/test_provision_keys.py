"""Certificates by real handshakes, node keys by Flower's own loaders."""

from __future__ import annotations

import argparse
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from qfl.errors import ConfigError, RefusedError
from qfl.federation.provision_keys import (
    AUTHORITY_DAYS,
    Authority,
    certificate_pem,
    check_node_key,
    check_server,
    node_key,
    private_pem,
)
from qfl.identity.refusal import Refusal

DAY = 86_400
NOW = time.time()
MADE = Authority.create("clinics", NOW)
ROOT = certificate_pem(MADE.certificate)


def shaken(
    folder: Path, root: bytes, certificate: bytes, key: bytes, asked: str
) -> tuple[str | None, bytes]:
    """A handshake over a pair of sockets: the TLS version, and what the server then said."""
    (folder / "crt").write_bytes(certificate)
    (folder / "key").write_bytes(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "crt", folder / "key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(cadata=root.decode())
    here, there = socket.socketpair()
    here.settimeout(10)
    there.settimeout(10)

    def serve() -> None:
        with there:
            try:
                with server.wrap_socket(there, server_side=True) as talk:
                    talk.sendall(b"hello")
            except (ssl.SSLError, OSError):
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with here, client.wrap_socket(here, server_hostname=asked) as talk:
            return talk.version(), talk.recv(5)
    finally:
        thread.join()


@pytest.mark.parametrize("host", ["fl.example.org", "10.0.0.7", "2001:db8::7"])
def test_clients_take_the_certificate_for_its_host_alone(tmp_path: Path, host: str) -> None:
    certificate, key, _ = MADE.certify("hub", host, 365, NOW)
    assert shaken(tmp_path, ROOT, certificate, key, host) == ("TLSv1.3", b"hello")
    for other in ("evil.example.org", "10.0.0.8", "2001:db8::8", "example.org"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            shaken(tmp_path, ROOT, certificate, key, other)
    another = certificate_pem(Authority.create("clinics", NOW).certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(tmp_path, another, certificate, key, host)


def test_a_certificate_that_has_run_out_is_refused(tmp_path: Path) -> None:
    old = NOW - 100 * DAY
    certificate, key, _ = MADE.certify("hub", "hub", 99, old)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shaken(tmp_path, ROOT, certificate, key, "hub")


def test_a_server_cannot_vouch_for_another(tmp_path: Path) -> None:
    certificate, key, _ = MADE.certify("hub", "hub", 365, NOW)
    thief = Authority.from_pem(key, certificate)
    forged, forged_key, _ = thief.certify("hub", "hub", 30, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(tmp_path, ROOT, forged + certificate, forged_key, "hub")


def test_what_the_certificates_say() -> None:
    pem, _, serial = MADE.certify("hub", "hub", 365, NOW)
    made, root = x509.load_pem_x509_certificate(pem), MADE.certificate
    assert f"{made.serial_number:x}" == serial
    for one in (made, root):
        key = one.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)
        begins = one.not_valid_before_utc.timestamp()
        assert NOW - 301 < begins <= NOW - 299
    assert made.not_valid_after_utc.timestamp() == pytest.approx(NOW + 365 * DAY, abs=1)
    assert root.not_valid_after_utc.timestamp() == pytest.approx(NOW + 3650 * DAY, abs=1)

    def extension(one: x509.Certificate, kind: type[x509.ExtensionType]) -> tuple[bool, object]:
        found = one.extensions.get_extension_for_class(kind)
        return found.critical, found.value

    assert extension(root, x509.BasicConstraints) == (True, x509.BasicConstraints(True, 0))
    assert extension(made, x509.BasicConstraints) == (True, x509.BasicConstraints(False, None))
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (False, False, True)
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in purposes] == ["1.3.6.1.5.5.7.3.1"]  # server auth


def test_a_certificate_does_not_outlive_its_authority() -> None:
    late = NOW + (AUTHORITY_DAYS - 10) * DAY
    pem, _, _ = MADE.certify("hub", "hub", 365, late)
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc <= (
        MADE.certificate.not_valid_after_utc
    )
    with pytest.raises(ConfigError, match=r"ran out on .* provision the federation anew"):
        MADE.certify("hub", "hub", 365, NOW + AUTHORITY_DAYS * DAY)


def test_an_authority_comes_back_whole() -> None:
    again = Authority.from_pem(private_pem(MADE.key), ROOT)
    assert again.certificate == MADE.certificate
    other = private_pem(Authority.create("clinics", NOW).key)
    with pytest.raises(RefusedError, match=r"ca.key is not the key of ca.crt"):
        Authority.from_pem(other, ROOT)
    with pytest.raises(RefusedError, match=r"ca.key is no key"):
        Authority.from_pem(b"", ROOT)


def test_a_server_is_checked() -> None:
    certificate, key, _ = MADE.certify("hub", "hub", 365, NOW)
    assert check_server(ROOT, certificate, key, "hub", NOW) == pytest.approx(NOW + 365 * DAY, abs=1)
    other = Authority.create("clinics", NOW)
    cases = [
        (certificate_pem(other.certificate), certificate, key, "hub", NOW, Refusal.SIGNATURE),
        (ROOT, certificate, private_pem(other.key), "hub", NOW, Refusal.KEY),
        (ROOT, certificate, key, "pub", NOW, Refusal.DAMAGED),
        (ROOT, certificate, key, "hub", NOW + 366 * DAY, Refusal.EXPIRED),
        (ROOT, certificate, key, "hub", NOW - DAY, Refusal.NOT_YET_VALID),
        (ROOT, b"", key, "hub", NOW, Refusal.DAMAGED),
        (b"x", certificate, key, "hub", NOW, Refusal.DAMAGED),
        (ROOT, certificate, b"x", "hub", NOW, Refusal.DAMAGED),
    ]
    for *given, expected in cases:
        with pytest.raises(RefusedError) as caught:
            check_server(*given)  # type: ignore[arg-type]
        assert caught.value.reason is expected


def test_flower_takes_a_node_key(tmp_path: Path) -> None:
    """With the loaders of ``flower-supernode`` and ``flwr supernode register``."""
    from flwr.cli.supernode.register import try_load_public_key
    from flwr.supercore.primitives.asymmetric import (
        bytes_to_public_key,
        sign_message,
        verify_signature,
    )
    from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

    secret, public = node_key()
    (tmp_path / "node.key").write_bytes(secret)
    (tmp_path / "node.pub").write_bytes(public)
    given = argparse.Namespace(
        auth_supernode_private_key=str(tmp_path / "node.key"), auth_supernode_public_key=None
    )
    pair = _try_setup_client_authentication(given)
    assert pair is not None
    registered = bytes_to_public_key(try_load_public_key(tmp_path / "node.pub"))
    assert registered == pair[1]
    assert verify_signature(registered, b"m", sign_message(pair[0], b"m"))


def test_halves_of_node_keys_are_checked() -> None:
    (secret, public), (_, other) = node_key(), node_key()
    check_node_key(secret, public)
    for key, half, expected in [
        (secret, other, Refusal.KEY),
        (secret, b"", Refusal.KEY),
        (b"", public, Refusal.DAMAGED),
        (private_pem(MADE.key), public, Refusal.DAMAGED),
    ]:
        with pytest.raises(RefusedError) as caught:
            check_node_key(key, half)
        assert caught.value.reason is expected
