"""Client side: the torch ClientApp and the mods that protect what leaves a client."""

from __future__ import annotations

from qfl.clients.accounts import Accounts
from qfl.clients.protect import ProtectMod
from qfl.clients.sign import SignMod
from qfl.clients.torch_app import make_client_app

__all__ = ["Accounts", "ProtectMod", "SignMod", "make_client_app"]
