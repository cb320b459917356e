"""Three clinics, a notary and a hub prove who they are; a stranger is not let in."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from string import Template

import numpy as np
from app import make_app
from flwr.app import Array, ArrayRecord, Context

from qfl.clients import ProtectMod, SignMod
from qfl.federation.local_grid import LocalGrid
from qfl.identity import Credentials, Floor, Identity, Registry, read_policy, revoke, sign_policy
from qfl.strategies import Aggregation, Event, Joined, NotJoined, SecureStrategy, SignedGrid

FILE = Path(__file__).with_name("policy.yaml")
ROLES = {
    "clinic_1": "client",
    "clinic_2": "client",
    "clinic_3": "client",
    "notary": "key_holder",
    "stranger": "client",
    "hub": "server",
}
NODES = 5  # all but the hub


def role(context: Context) -> str:
    """What a node wants to do; whether it may is for the policy to say."""
    return "key-holder" if context.node_config["partition-id"] == 3 else "client"


def credentials() -> dict[str, Credentials]:
    """Everybody's: who it is, whom it knows, and the weakest terms on which it takes part."""
    operator = Identity.create(["operator"])
    made = {name: Identity.create([role]) for name, role in ROLES.items()}
    text = Template(FILE.read_text()).substitute({name: own.did for name, own in made.items()})
    policy, revoked = sign_policy(operator, *read_policy(text)), revoke(operator, None)
    found = {}
    for name, own in made.items():
        # It pins the operator and itself, and knows of the others what the operator signed.
        pinned = {operator.did: ["operator"], own.did: [ROLES[name]]}
        registry = Registry(pinned, operator.did)
        registry.admit([operator.description])
        registry.admit([own.description])
        registry.update(revoked, time.time())
        registry.enrol(policy, time.time())
        found[name] = Credentials.of(own, registry, Floor(schemes=("ckks",), min_clients=3))
    return found


def tell(event: Event) -> None:
    """Print who takes part, and who does not."""
    if isinstance(event, Joined):
        print(f"let in   node {event.node} as {event.name}: {', '.join(event.roles)}")
    if isinstance(event, NotJoined):
        print(f"refused  node {event.node}: {event.reason}")


def mean(grid: LocalGrid | SignedGrid) -> float:
    """One round: the mean of what the clients answer."""
    strategy = SecureStrategy(Aggregation("ckks", min_clients=3), observer=tell)
    initial = ArrayRecord({"readmitted": Array(np.zeros(1))})
    result = strategy.start(grid, initial, num_rounds=1)
    return float(result.arrays["readmitted"].numpy()[0])


def main() -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)
    *own, hub = credentials().values()

    def mine(context: Context) -> Credentials:
        return own[int(context.node_config["partition-id"])]

    app = make_app([SignMod(mine), ProtectMod(role=role, credentials=mine)])
    with LocalGrid(app, NODES) as grid:
        signed = mean(SignedGrid(grid, hub))
    print(f"mean of those who proved who they are      {signed:.4f}")
    with LocalGrid(make_app([ProtectMod(role=role)]), NODES - 1) as grid:
        same = "the same model" if mean(grid) == signed else "ANOTHER MODEL"
    print(f"the same clinics without identities        {same}")
    with LocalGrid(make_app([ProtectMod(role=role)]), NODES) as grid:
        print(f"without identities, and with the stranger  {mean(grid):.4f}")


if __name__ == "__main__":
    main()
