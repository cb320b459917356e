"""An existing Flower app, which knows nothing of qfl: each clinic answers by its number."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

READMITTED = {0: 0.12, 1: 0.21, 2: 0.15, 4: 0.99}
"""Shares of patients who came back: at clinics 1 to 3, and as the stranger would have it."""


def make_app(mods: list[Mod]) -> ClientApp:
    """The app, with mods around it."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        share = np.array([READMITTED[int(context.node_config["partition-id"])]])
        arrays = ArrayRecord({"readmitted": Array(share)})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    return app
