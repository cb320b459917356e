"""The schema of identities (group ``identity``)."""

from __future__ import annotations

from dataclasses import dataclass

from qfl.conf.settings import setting


@dataclass
class IdentityConfig:
    """Whether participants prove who they are."""

    name: str = setting(
        "none",
        "post_quantum: every message is signed and sealed, keys and contributions are vouched for",
        choices=("none", "post_quantum"),
    )
    algorithm: str = setting(
        "ML-DSA-65",
        "signature algorithm of identities that a simulation makes",
        choices=("ML-DSA-44", "ML-DSA-65", "ML-DSA-87"),
    )
    provider: str = setting(
        "auto",
        "who signs; auto prefers oqs where liboqs is installed",
        choices=("auto", "oqs", "cryptography"),
    )
    anomalies: bool = setting(
        False, "have what is visible of replies scored for anomalies, which can only warn"
    )
