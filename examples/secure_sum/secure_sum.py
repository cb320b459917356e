"""Four hospitals learn the sum of their vectors, and nobody learns one of them.

Nothing here needs a federation, a server or torch: each scheme in a few lines.
"""

from __future__ import annotations

import numpy as np

from qfl.crypto import (
    MaskingClient,
    MaskingRules,
    MaskingServer,
    MemberKeys,
    Roster,
    SumRange,
    from_grid,
    make_scheme,
    to_grid,
)

SUMS = SumRange(fraction_bits=14, bound=8.0, additions=4)
LENGTH = 1000
VECTORS = np.random.default_rng(0).normal(0, 0.5, (4, LENGTH)).round(2)


def with_a_key_holder(name: str) -> np.ndarray:
    """One party makes the keys and opens the sum; another one adds."""
    scheme = make_scheme(name, LENGTH, SUMS)
    keys = scheme.generate_keys()  # the key holder's
    total = scheme.accumulator(LENGTH, keys.public)  # the server's
    for vector in VECTORS:  # a hospital's
        total.add(scheme.protect(to_grid(vector, 1.0, SUMS), keys.public))
    opened = scheme.open(total.result(), LENGTH, keys.secret)  # the key holder's
    return from_grid(scheme.finish(opened, total.masked(), LENGTH), SUMS)


def under_masks() -> np.ndarray:
    """No key holder: five short steps, and one hospital vanishes after the second."""
    keys = [MemberKeys() for _ in VECTORS]
    roster = Roster(key.member for key in keys)
    rules = MaskingRules(SUMS, min_clients=3)
    place = "run 1/round 1/sum/0"
    server = MaskingServer(roster, place, LENGTH, rules)
    clients = {key.name: MaskingClient(key, roster, place, rules) for key in keys}
    for name, client in clients.items():
        server.take_advertisement(name, client.advertise())
    for name, client in clients.items():
        server.take_shares(name, client.share(server.advertisements()))
    *present, _vanished = clients
    for name, vector in zip(present, VECTORS, strict=False):
        values = to_grid(vector, 1.0, SUMS)
        server.take_masked(name, clients[name].mask(values, server.inbox_for(name)))
    for name in present:
        server.take_agreement(name, clients[name].agree(server.survivors()))
    for name in present:
        server.take_reveal(name, clients[name].reveal(server.signatures_for(name)))
    return from_grid(server.result(), SUMS)


def main() -> None:
    steps = np.rint(VECTORS / SUMS.step) * SUMS.step
    for name in ("ckks", "packed", "hybrid"):
        same = np.array_equal(with_a_key_holder(name), steps.sum(axis=0))
        print(f"{name:8} sum of 4 vectors on the grid: {'exact' if same else 'WRONG'}")
    same = np.array_equal(under_masks(), steps[:3].sum(axis=0))
    print(f"masking  sum of the 3 that stayed: {'exact' if same else 'WRONG'}")


if __name__ == "__main__":
    main()
