"""The torch client, asked in a step and with a configuration that need not tell the same story."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl._flower_compat import set_task_identity
from qfl.clients import Accounts, ProtectMod, local_data, make_client_app
from qfl.clients.torch_app import dataset_digest
from qfl.conf.checks import from_dict, to_dict
from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Step
from qfl.models import build_model
from qfl.privacy import Ledger, PrivacyFloor, Terms
from qfl.records import ARRAYS, CONFIG, STEP, step_record

GRID_BITS = 12


def configured(mechanism: str = "none", **changes: Any) -> ExperimentConfig:
    """Three clients on iris, as a server writes it."""
    privacy = {"mechanism": mechanism, **changes.pop("privacy", {})}
    sections: dict[str, Any] = {
        "rounds": 3,
        "clients": 3,
        "dataset": {"name": "iris"},
        "partition": {"name": "iid"},
        "preprocess": {"fit": "local"},
        "model": {"name": "mlp", "width": 4, "hidden": 3},
        "strategy": {"weighting": "uniform"},
        "client": {"batch_size": 10},
        "privacy": privacy,
    }
    return from_dict(sections | changes)


class Client:
    """One node with the torch app, with the mod or without it.

    Args:
        folder: For its ledger.
        floor: What it insists on.
        mod: Whether :class:`ProtectMod` is around the app.
        accounts: Its own; unset, a ledger in the folder and all data as one data set.
    """

    def __init__(
        self,
        folder: Path,
        floor: PrivacyFloor | None = None,
        *,
        mod: bool = True,
        accounts: Accounts | None = None,
    ) -> None:
        accounts = accounts or Accounts(str(folder / "ledger.sqlite"), floor)
        self.app = make_client_app([ProtectMod(accounts=accounts)] if mod else [], accounts)
        self.folder, self.state = folder, RecordDict()

    @property
    def spent(self) -> int:
        """Entries of its ledger."""
        path = self.folder / "ledger.sqlite"
        return Ledger(path).count if path.exists() else 0

    def ask(
        self,
        config: ExperimentConfig,
        terms: Terms | None = None,
        kind: str = "train",
        *,
        step: bool = True,
        round: int = 1,
        **fields: Any,
    ) -> Message:
        """Its answer to one message; ``step=False`` is what a stock strategy sends."""
        set_task_identity(1, 0)
        dataset, _ = local_data.load_parts(config)
        model = build_model(config.model, config.quantum, local_data.data_shape(config, dataset))
        wire = {"qfl-config": json.dumps(to_dict(config)), "server-round": round}
        content = RecordDict(
            {ARRAYS: ArrayRecord(model.state_dict()), CONFIG: ConfigRecord(dict(wire))}
        )
        if step:
            content[STEP] = step_record(step_of(terms, round, **fields).to_json())
        message = Message(content, dst_node_id=1, message_type=kind)
        context = Context(7, 1, {"partition-id": 0}, self.state, {})
        return self.app(message, context)


def step_of(terms: Terms | None, round: int = 1, **fields: Any) -> Step:
    """A step under ``plain``, which needs no keys."""
    given: dict[str, Any] = {
        "step": "train",
        "run": "run-1",
        "round": round,
        "label": "train",
        "scheme": "plain",
        "trust": "none",
        "key_id": "",
        "longest": 200,
        "fraction_bits": GRID_BITS,
        "bound": 64.0,
        "additions": 3,
        "min_clients": 2,
        "clients": 3,
        "examples": 0,
        "privacy": terms.to_json() if terms else "",
    }
    return Step(**(given | fields))


def by_content(folder: Path) -> Accounts:
    """As in a simulation."""
    return Accounts(str(folder / "ledger.sqlite"), dataset=dataset_digest)
