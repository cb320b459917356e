"""Two of ten break the protocol and are quarantined; none of eight honest, unlike ones is."""

from __future__ import annotations

import numpy as np
import pytest

from qfl.identity.anomaly import suspicious
from qfl.identity.reputation import Observation, Reputation, Standing

GOOD, WARNED, QUARANTINED, EXPELLED = Standing
CONTRIBUTED, MISSED, DECLINED, VIOLATION, OUT_OF_BOUNDS, ANOMALOUS = Observation


def federation(seed: int) -> tuple[Reputation, set[str], set[str]]:
    """20 rounds of 10 nodes, two of which violate the protocol in every second round, by chance.

    The others are honest and unlike each other: each has its own speed and size, misses 15 % of
    rounds, declines 5 % and is called odd in up to 90 %.

    Returns:
        The reputation, who violates, and who was quarantined at any time.
    """
    draw = np.random.default_rng(seed)
    nodes = [f"did:qfl:{name}" for name in "abcdefghij"]
    violators = set(draw.choice(nodes, 2, replace=False).tolist())
    odd = dict(zip(nodes, draw.uniform(0, 0.9, 10), strict=True))
    own = dict(zip(nodes, draw.normal(0, 2, (10, 3)), strict=True))
    made, quarantined = Reputation(), set()
    for number in range(1, 21):
        asked = [did for did in nodes if made.may_take_part(did)]
        replied: dict[str, list[float]] = {}
        for did in asked:
            draws = draw.random(4)
            if did in violators:
                made.observe(did, number, VIOLATION if draws[0] < 0.5 else CONTRIBUTED)
            elif draws[1] < 0.15:
                made.observe(did, number, MISSED)
            elif draws[1] < 0.2:
                made.observe(did, number, DECLINED)
            else:
                made.observe(did, number, CONTRIBUTED)
                replied[did] = list(own[did] + draw.normal(0, 0.3, 3))
                if draws[2] < odd[did]:
                    made.observe(did, number, ANOMALOUS)
        for did in suspicious(replied, 1000 * seed + number):
            made.observe(did, number, ANOMALOUS)
        quarantined |= {did for did in nodes if not made.may_take_part(did)}
        made.end_round(number)
    return made, violators, quarantined


@pytest.mark.parametrize("seed", range(20))
def test_violators_are_quarantined_and_unlike_honest_nodes_are_not(seed: int) -> None:
    made, violators, quarantined = federation(seed)
    assert quarantined == violators
    honest = set(made.nodes) - violators
    assert len(honest) == 8 and all(made.tally(did).blame == 0 for did in honest)


def test_some_honest_nodes_of_these_federations_were_suspected() -> None:
    """Else the test before would say little."""
    suspected = [
        made.tally(did).suspicion
        for made, violators, _ in map(federation, range(20))
        for did in made.nodes
        if did not in violators
    ]
    assert max(suspected) > 2.5
    assert np.mean(np.array(suspected) > 1.5) > 0.3
