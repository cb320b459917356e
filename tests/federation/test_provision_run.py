"""A federation made from a file runs: everybody loads a kit, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import ProtectMod, SignMod
from qfl.federation.local_grid import LocalGrid
from qfl.federation.provision import provision
from qfl.federation.provision_change import add_member, revoke_member, rotate_member
from qfl.federation.provision_plan import read_plan
from qfl.identity.credential_files import load_credentials
from qfl.identity.credentials import Credentials
from qfl.strategies import Aggregation, SecureStrategy, SignedGrid

PLAN = """
federation: clinics
server: fl.example.org:9092
members:
  hub: [server]
  notary: [key_holder]
  clinic-1: [client]
  clinic-2: [client]
  clinic-3: [client]
floor: {schemes: [ckks], trusts: [key_holder], min_clients: 2}
"""
SHARES = {"clinic-1": 0.25, "clinic-2": 0.5, "clinic-3": 0.125, "clinic-4": 0.75}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kits that no test changes."""
    kits = tmp_path_factory.mktemp("made") / "kits"
    provision(read_plan(PLAN), kits)
    return kits


@pytest.fixture
def kits(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "kits"))


def ran(kits: dict[str, Path], hub: Path) -> tuple[float, dict[str, str]]:
    """One round in which each clinic tells its share: the mean, and who was refused and why."""
    names = list(kits)
    own = {name: load_credentials(kit) for name, kit in kits.items()}

    def mine(context: Context) -> Credentials:
        return own[names[int(context.node_config["partition-id"])]]

    def role(context: Context) -> str:
        name = names[int(context.node_config["partition-id"])]
        return "key-holder" if name == "notary" else "client"

    app = ClientApp(mods=[SignMod(mine), ProtectMod(role=role, credentials=mine)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        share = np.array([SHARES[names[int(context.node_config["partition-id"])]]])
        content = RecordDict({"arrays": ArrayRecord({"share": Array(share)})})
        return Message(content, reply_to=message)

    with LocalGrid(app, len(names)) as local:
        grid = SignedGrid(local, load_credentials(hub), patience=20)
        strategy = SecureStrategy(Aggregation("ckks", min_clients=2))
        start = ArrayRecord({"share": Array(np.zeros(1))})
        result = strategy.start(grid, start, num_rounds=1)
        known = {names[node - 1]: why for node, why in grid.refused.items()}
    assert result.arrays is not None
    return float(result.arrays["share"].numpy()[0]), known


def everybody(kits: Path, *more: str) -> dict[str, Path]:
    return {name: kits / name for name in ("clinic-1", "clinic-2", "clinic-3", *more, "notary")}


def test_a_provisioned_federation_runs(made: Path) -> None:
    mean, refused = ran(everybody(made), made / "hub")
    assert mean == pytest.approx((0.25 + 0.5 + 0.125) / 3, abs=2**-19)
    assert refused == {}


def test_who_is_added_joins_and_the_others_keep_their_kits(kits: Path, made: Path) -> None:
    add_member(kits, "clinic-4", ["client"])
    old = {name: made / name for name in everybody(made)}  # as they were handed out
    mean, refused = ran({**old, "clinic-4": kits / "clinic-4"}, kits / "hub")
    assert mean == pytest.approx((0.25 + 0.5 + 0.125 + 0.75) / 4, abs=2**-19)
    assert refused == {}
    # A server that was not brought up to date does not know the new member.
    mean, refused = ran({**old, "clinic-4": kits / "clinic-4"}, made / "hub")
    assert mean == pytest.approx((0.25 + 0.5 + 0.125) / 3, abs=2**-19)
    assert refused.keys() == {"clinic-4"}


def test_who_is_revoked_is_refused(kits: Path, made: Path) -> None:
    revoke_member(kits, "clinic-2", "compromised")
    mean, refused = ran(everybody(made), kits / "hub")
    assert mean == pytest.approx((0.25 + 0.125) / 2, abs=2**-19)
    assert refused.keys() == {"clinic-2"}


def test_who_is_rotated_works(kits: Path, made: Path) -> None:
    rotate_member(kits, "clinic-2")
    rotate_member(kits, "hub")
    rotate_member(kits, "notary")
    old = {name: made / name for name in ("clinic-1", "clinic-3")}
    new = {name: kits / name for name in ("clinic-2", "notary")}
    mean, refused = ran({**old, **new}, kits / "hub")
    assert mean == pytest.approx((0.25 + 0.5 + 0.125) / 3, abs=2**-19)
    assert refused == {}
