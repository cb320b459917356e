"""Keys for the way there: a certificate authority, the server's certificate, keys of nodes.

TLS protects the connection, and Flower's node authentication the door; both are elliptic curves
(P-384), which a quantum computer would break. What is said inside is signed and sealed by
identities that it would not (:mod:`qfl.identity`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qfl.errors import ConfigError
from qfl.identity.identity import LEEWAY
from qfl.identity.refusal import Refusal, RefusedError

AUTHORITY_DAYS = 3650


@dataclass(frozen=True, repr=False)
class Authority:
    """Who vouches for the server's certificate.

    Attributes:
        key: Its secret key.
        certificate: What clients trust.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @staticmethod
    def create(federation: str, now: float, days: int = AUTHORITY_DAYS) -> Authority:
        """A new one, which vouches for servers only, and for no other authority."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name("authority", federation)
        made = (
            _builder(name, name, key.public_key(), now, datetime.fromtimestamp(now, UTC), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, hashes.SHA384())
        )
        return Authority(key, made)

    @staticmethod
    def from_pem(key: bytes, certificate: bytes) -> Authority:
        """From what :func:`private_pem` and :func:`certificate_pem` wrote.

        Raises:
            RefusedError: They are damaged, or do not belong together.
        """
        made = Authority(_load_key(key, "ca.key"), _load(certificate, "ca.crt"))
        if made.key.public_key() != made.certificate.public_key():
            raise RefusedError(Refusal.KEY, "ca.key is not the key of ca.crt")
        return made

    def certify(self, name: str, host: str, days: int, now: float) -> tuple[bytes, bytes, str]:
        """A server's certificate, for TLS and for one host.

        Args:
            name: The server's.
            host: Name or IP address that clients connect to.
            days: Validity, at most the authority's own.
            now: Seconds since 1970 in UTC.

        Returns:
            Certificate and secret key, both PEM, and the serial number in hexadecimal digits.

        Raises:
            ConfigError: The authority has run out.
        """
        last = self.certificate.not_valid_after_utc
        left = (last - datetime.fromtimestamp(now, UTC)).days
        if left < 1:
            raise ConfigError(
                f"the certificate authority ran out on {last:%Y-%m-%d}: provision the federation "
                "anew"
            )
        key = ec.generate_private_key(ec.SECP384R1())
        start = datetime.fromtimestamp(now, UTC)
        issuer = self.certificate.subject
        made = (
            _builder(_name("server", name), issuer, key.public_key(), now, start, min(days, left))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA384())
        )
        return certificate_pem(made), private_pem(key), f"{made.serial_number:x}"


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as TLS libraries read it."""
    return certificate.public_bytes(Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A secret key as TLS libraries read it, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def node_key() -> tuple[bytes, bytes]:
    """A key for Flower's node authentication: OpenSSH format, secret and public half."""
    key = ec.generate_private_key(ec.SECP384R1())
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        _ssh_public(key) + b"\n",
    )


def check_node_key(secret: bytes, public: bytes) -> None:
    """Make sure that two halves of a node's key belong together.

    Raises:
        RefusedError: They do not, or are none.
    """
    try:
        key = load_ssh_private_key(secret, None)
    except (ValueError, UnsupportedAlgorithm):
        raise RefusedError(Refusal.DAMAGED, "node.key is no OpenSSH key, or damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _ssh_public(key) != public.strip():
        raise RefusedError(Refusal.KEY, "node.pub is not the public half of node.key")


def check_server(
    authority: bytes, certificate: bytes, key: bytes | None, host: str, now: float
) -> float:
    """Make sure that clients will take a server's certificate.

    Args:
        authority: Certificate of the authority, PEM.
        certificate: The server's, PEM.
        key: Its secret key, PEM.
        host: Name or IP address that clients connect to.
        now: Seconds since 1970 in UTC.

    Returns:
        When the certificate ends, in seconds since 1970 in UTC.

    Raises:
        RefusedError: It has run out, or key, authority or host is another.
    """
    root, made = _load(authority, "tls/ca.crt"), _load(certificate, "tls/server.crt")
    check_dates(authority, "tls/ca.crt", now)
    last = check_dates(certificate, "tls/server.crt", now)
    try:
        made.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        raise RefusedError(
            Refusal.SIGNATURE, "tls/server.crt is not signed by the authority in tls/ca.crt"
        ) from None
    if key is not None and _load_key(key, "tls/server.key").public_key() != made.public_key():
        raise RefusedError(Refusal.KEY, "tls/server.key is not the key of tls/server.crt")
    try:
        names = list(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if _alternative(host) not in names:
        raise RefusedError(Refusal.DAMAGED, f"tls/server.crt is not for {host}")
    return last


def check_dates(certificate: bytes, what: str, now: float) -> float:
    """When a certificate ends, in seconds since 1970 in UTC.

    Raises:
        RefusedError: It has ended, or not begun.
    """
    found = _load(certificate, what)
    if now < found.not_valid_before_utc.timestamp():
        raise RefusedError(
            Refusal.NOT_YET_VALID,
            f"{what} is valid from {found.not_valid_before_utc:%Y-%m-%d %H:%M:%SZ} only; is the "
            "clock right?",
        )
    last = found.not_valid_after_utc.timestamp()
    if now >= last:
        raise RefusedError(
            Refusal.EXPIRED, f"{what} was valid until {found.not_valid_after_utc:%Y-%m-%d}"
        )
    return last


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: float,
    start: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - LEEWAY, UTC))
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(unit: str, name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "qfl"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _ssh_public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _load(certificate: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise RefusedError(Refusal.DAMAGED, f"{what} is no certificate, or damaged") from None


def _load_key(key: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise RefusedError(Refusal.DAMAGED, f"{what} is no key of an elliptic curve, or damaged")
    return found
