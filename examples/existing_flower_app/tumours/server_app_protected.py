"""The server."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from qfl.strategies import Aggregation, SecureStrategy
from tumours.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    torch.manual_seed(0)
    strategy = SecureStrategy(Aggregation("ckks"), evaluate_metrics=("accuracy",))
    result = strategy.start(
        grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        num_rounds=int(context.run_config.get("num-server-rounds", 3)),
    )
    torch.save(result.arrays.to_torch_state_dict(), "final_model.pt")
