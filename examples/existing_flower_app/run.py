"""Run the app as it was and protected, on this machine, and compare the two."""

from __future__ import annotations

import contextlib
import logging
import tempfile

import torch
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from tumours import client_app, client_app_protected, server_app, server_app_protected
from tumours.task import Net, load_data, test

from qfl.federation.local_grid import run_local

HOSPITALS = 5


def final_model(server: ServerApp, client: ClientApp) -> dict[str, torch.Tensor]:
    """Run a federation; the server app leaves its model in the current folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run_local(server, client, nodes=HOSPITALS)
        weights: dict[str, torch.Tensor] = torch.load("final_model.pt", weights_only=True)
    return weights


def accuracy(weights: dict[str, torch.Tensor]) -> float:
    net = Net()
    net.load_state_dict(weights)
    found = [test(net, load_data(hospital, HOSPITALS)[1]) for hospital in range(HOSPITALS)]
    return sum(found) / HOSPITALS


def main() -> None:
    logging.getLogger("flwr").setLevel(logging.WARNING)
    plain = final_model(server_app.app, client_app.app)
    protected = final_model(server_app_protected.app, client_app_protected.app)
    apart = max(float((plain[name] - protected[name]).abs().max()) for name in plain)
    print(f"accuracy of the app as it was    {accuracy(plain):.1%}")
    print(f"accuracy of the protected app    {accuracy(protected):.1%}")
    print(f"largest difference of a weight   {apart:.1e}")


if __name__ == "__main__":
    main()
