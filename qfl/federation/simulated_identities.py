"""Identities for a simulation: an operator, a server and nodes, made for the run and forgotten.

The parts are those of a real federation: the operator signs a policy and an empty revocation list;
each node pins the operator alone and learns of the others what the operator signed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from qfl.conf.schema import ExperimentConfig
from qfl.identity.credential_files import load_credentials, save_credentials
from qfl.identity.credentials import Credentials
from qfl.identity.floor import Floor
from qfl.identity.identity import Identity
from qfl.identity.policy import DEFAULT_PERMISSIONS, Enrolled, Policy, sign_policy
from qfl.identity.registry import Registry
from qfl.identity.revocation import RevocationList, revoke

_LOADED: dict[str, Credentials] = {}


@dataclass(frozen=True)
class Issued:
    """What an operator has signed for a federation.

    Attributes:
        operator: Who signed.
        policy: Who belongs to it.
        revocations: Who counts no longer.
    """

    operator: Identity
    policy: Policy
    revocations: RevocationList

    def registry(self) -> Registry:
        """What a node knows of the others at first."""
        operator = self.operator
        registry = Registry({operator.did: ["operator"]}, operator.did)
        registry.admit([operator.description])
        now = time.time()
        registry.update(self.revocations, now)
        registry.enrol(self.policy, now)
        return registry

    def credentials(self, identity: Identity, floor: Floor) -> Credentials:
        """A node's own."""
        registry = self.registry()
        registry.admit([identity.description])
        return Credentials.of(identity, registry, floor)


@dataclass(frozen=True)
class SimulatedIdentities:
    """Everybody's.

    Attributes:
        issued: What the operator signed.
        server: The server's.
        nodes: The nodes', by their number in the simulation.
    """

    issued: Issued
    server: Credentials
    nodes: list[Credentials]

    @staticmethod
    def of(config: ExperimentConfig) -> SimulatedIdentities:
        """New ones; each node insists on what the configuration asks for."""
        asked, made = config.identity, config.strategy
        opens = made.trust in ("shared", "committee")
        roles = ["client", "key_holder"] if opens else ["client"]
        kinds = [roles] * config.clients
        if made.trust == "key_holder":
            kinds.append(["key_holder"])

        def create(roles: list[str]) -> Identity:
            return Identity.create(roles, algorithm=asked.algorithm, provider=asked.provider)

        operator, server = create(["operator"]), create(["server"])
        nodes = [create(kind) for kind in kinds]
        named = {"operator": operator, "server": server}
        named |= {f"node-{number}": one for number, one in enumerate(nodes)}
        permissions = dict(DEFAULT_PERMISSIONS)
        if made.release == "clients":
            permissions["release"] = ()
        policy = sign_policy(
            operator,
            "simulation",
            [Enrolled(name, one.did, one.description.roles) for name, one in named.items()],
            permissions,
        )
        issued = Issued(operator, policy, revoke(operator, None))
        floor = Floor(
            schemes=(made.scheme,),
            trusts=(made.trust,),
            releases=(made.release,),
            min_clients=max(2, made.min_clients),
            clear=0.0 if made.selective.by == "all" else 1.0,
        )
        return SimulatedIdentities(
            issued,
            issued.credentials(server, Floor()),
            [issued.credentials(one, floor) for one in nodes],
        )

    def source(self, folder: Path | None) -> Callable[[Context], Credentials]:
        """How a node finds its own.

        Args:
            folder: Where they are written for other processes to read; unset, nodes are in this
                process.
        """
        if folder is None:
            nodes = self.nodes
            return lambda context: nodes[int(context.node_config["partition-id"])]
        for number, one in enumerate(self.nodes):
            save_credentials(folder / f"node-{number}", one)
        return _FromFiles(str(folder))


@dataclass(frozen=True)
class _FromFiles:
    """Finds a node's credentials in a folder; travels to other processes."""

    folder: str

    def __call__(self, context: Context) -> Credentials:
        path = f"{self.folder}/node-{context.node_config['partition-id']}"
        if path not in _LOADED:
            _LOADED[path] = load_credentials(Path(path))
        return _LOADED[path]
