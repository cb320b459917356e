"""Every secret, noted as it is made by whatever makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pytest
from canaries import Secrets

import qfl.crypto.group_box as group_box
import qfl.crypto.hybrid as hybrid
import qfl.crypto.hybrid_keys as hybrid_keys
import qfl.crypto.masking_client as masking_client
import qfl.crypto.masking_package as masking_package
from qfl.clients import keeping, protect
from qfl.crypto import Committee, KeyHolder, MaskingClient, MemberKeys, make_scheme
from qfl.crypto.sealing import SealingKey

Look = Callable[..., None]


def note_all(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """Have every secret noted from now on."""
    secrets, dealing = Secrets(), threading.local()

    def keep(where: dict[str, list[Any]], kind: str, secret: Any) -> None:
        where.setdefault(kind, []).append(secret)

    def after(owner: Any, name: str, look: Look) -> None:
        """Call ``look`` with what a function returned and with what it was given."""
        plain = getattr(owner, name)

        @wraps(plain)
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = plain(*args, **kwargs)
            look(result, *args)
            return result

        static = isinstance(vars(owner).get(name), staticmethod)
        monkeypatch.setattr(owner, name, staticmethod(watched) if static else watched)

    def key(kind: str) -> Look:
        """The first argument is one."""
        return lambda result, secret, *args: keep(secrets.keys, kind, secret)

    def seed_of(kind: str) -> Look:
        return lambda result, owner, *args: keep(secrets.keys, kind, owner.seed)

    def key_pair(holder: KeyHolder, *args: Any) -> None:
        secrets.public.append(holder.keys.public)
        keep(secrets.keys, "secret key", holder.keys.secret)

    def ring_key(result: Any, ring_key: Any, *args: Any) -> None:
        keep(secrets.small, "ring key", ring_key)

    def committee_shares(result: list[bytes], *args: Any) -> None:
        for share in result:
            keep(secrets.keys, "committee share", share)

    def advertised(result: bytes, client: MaskingClient) -> None:
        keep(secrets.keys, "masking seed", client._state.seed)
        keep(secrets.keys, "masking root", client._state.root)

    share = MaskingClient.share

    def shared(client: MaskingClient, advertisements: bytes) -> bytes:
        dealing.name = client._keys.name
        return share(client, advertisements)

    def masking_shares(rows: Any, *args: Any) -> None:
        for row in rows:
            both = row.astype("<u4").tobytes()
            keep(secrets.keys, f"seed share of {dealing.name}", both[:64])
            keep(secrets.keys, f"root share of {dealing.name}", both[64:])

    def common_mask(result: bytes, *args: Any) -> None:
        keep(secrets.keys, "common mask", result)

    def contribution(result: Any, step: Any, *args: Any) -> None:
        kind = "update" if step.step == "train" else "metric"
        keep(secrets.vectors, kind, result)
        keep(secrets.vectors, kind, result * step.sums.step)

    def count(result: Any, step: Any, *args: Any) -> None:
        keep(secrets.vectors, "count", result)
        keep(secrets.vectors, "count", result * step.sums.step)

    def kept(result: Any, step: Any, opened: Any, masked: bytes, header: Any, *args: Any) -> None:
        released, _ = result
        scheme = make_scheme(step.scheme, step.longest, step.sums, step.trust)
        values = scheme.finish(opened, masked, header.length, place=header.place)
        keep(secrets.vectors, "sum", values[: values.size - released.size])

    def model(result: bytes, run: str, arrays: Any, *args: Any) -> None:
        flat = np.concatenate([array.ravel() for array in arrays.values()])
        if "sum" in secrets.vectors:  # the first one came from the server
            keep(secrets.vectors, "model", flat)

    monkeypatch.setattr(MaskingClient, "share", shared)
    for module in (group_box, hybrid_keys, keeping):
        after(module, "lock", key("lock"))
    after(KeyHolder, "create", key_pair)
    after(MemberKeys, "__init__", seed_of("member seed"))
    after(SealingKey, "__init__", seed_of("sealing seed"))
    after(hybrid, "seal_key", ring_key)
    after(hybrid, "keystream", key("stream key"))
    after(Committee, "deal", committee_shares)
    after(MaskingClient, "advertise", advertised)
    after(masking_client, "split", masking_shares)
    after(masking_package, "edge_seed", common_mask)
    after(protect, "weighed", contribution)
    after(protect, "numbers", count)
    after(keeping, "next_model", kept)
    after(keeping, "_lock", model)
    return secrets
