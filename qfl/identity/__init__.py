"""Who takes part, and proof of what was said and done.

Identities with descriptions that they sign, key files, rotation and revocation; envelopes that bind
what they carry to sender, receiver and place; who may do what, and the weakest terms on which a
node takes part; trust over time; the audit trail.
"""

from __future__ import annotations

from qfl.identity.audit import AuditChain
from qfl.identity.credential_files import load_credentials, save_credentials
from qfl.identity.credentials import Credentials
from qfl.identity.description import Description
from qfl.identity.envelope import Envelope, Expected, Place
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.key_file import load_identity, read_did, save_identity
from qfl.identity.opening import open_envelope, read_envelope
from qfl.identity.policy import (
    DEFAULT_PERMISSIONS,
    PERMISSIONS,
    Enrolled,
    Policy,
    read_policy,
    sign_policy,
)
from qfl.identity.refusal import Refusal
from qfl.identity.registry import Registry
from qfl.identity.replay import ReplayGuard
from qfl.identity.reputation import Change, Observation, Reputation, Rules, Standing
from qfl.identity.revocation import RevocationList, Revoked, revoke
from qfl.identity.rotation import rotate, verify_chain
from qfl.identity.sending import seal_envelope, write_envelope

__all__ = [
    "DEFAULT_PERMISSIONS",
    "PERMISSIONS",
    "AuditChain",
    "Change",
    "Credentials",
    "Description",
    "Enrolled",
    "Envelope",
    "Expected",
    "Floor",
    "Identity",
    "Observation",
    "Place",
    "Policy",
    "Refusal",
    "Registry",
    "ReplayGuard",
    "Reputation",
    "RevocationList",
    "Revoked",
    "Rules",
    "Standing",
    "load_credentials",
    "load_identity",
    "open_envelope",
    "read_did",
    "read_envelope",
    "read_policy",
    "revoke",
    "rotate",
    "save_credentials",
    "save_identity",
    "seal_envelope",
    "sign_policy",
    "verify_chain",
    "write_envelope",
]
