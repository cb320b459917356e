"""Who takes part, and proof of what was said and done.

Identities with descriptions that they sign, key files, rotation and revocation; envelopes that bind
what they carry to sender, receiver and place; the audit trail.
"""

from __future__ import annotations

from qfl.identity.audit import AuditChain
from qfl.identity.description import Description
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.identity import Identity
from qfl.identity.key_file import load_identity, read_did, save_identity
from qfl.identity.opening import open_envelope, read_envelope
from qfl.identity.refusal import Refusal
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.revocation import RevocationList, Revoked, revoke
from qfl.identity.rotation import rotate, verify_chain
from qfl.identity.sending import seal_envelope, write_envelope

__all__ = [
    "AuditChain",
    "Description",
    "Envelope",
    "Expected",
    "Identity",
    "Place",
    "Refusal",
    "Registry",
    "ReplayGuard",
    "RevocationList",
    "Revoked",
    "load_identity",
    "open_envelope",
    "read_did",
    "read_envelope",
    "revoke",
    "rotate",
    "save_identity",
    "seal_envelope",
    "verify_chain",
    "write_envelope",
]
