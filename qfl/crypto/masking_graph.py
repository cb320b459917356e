"""How many neighbours a client needs, so that sums under masks are private and get through.

After Bell, Bonawitz, Gascon, Lepoint and Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead" (CCS 2020). Clients stand on a ring in a random order, and each shares
masks with the ``degree`` nearest. Of n clients, ``corrupted * n`` collude with the server, chosen
before the order is known. What has to hold:

* *Shares*: fewer than ``threshold`` of a client's neighbours collude, so they open nothing.
* *Agreement*: ``quorum`` signatures over one set leave too few honest clients for another, because
  each honest client signs once: ``2 * quorum > n + colluding``.
* *Connection*: the honest members of a sum hang together by masks that the server does not know,
  so that only the sum of all of them can be read. They fall apart only where the ring is cut in
  two places, by ``degree / 2`` positions in a row without an honest member. So if two such
  stretches never hold ``spread`` colluding clients, and every client refuses a set with fewer than
  ``spread`` members on any two, no set that a server makes up cuts the ring.

And, as far as ``dropout * n`` clients vanish, independently of the order: ``threshold`` neighbours
of every client, ``quorum`` clients, and ``spread`` members of any two stretches stay.

Numbers of colluding or vanished clients on given positions are hypergeometric; their exact tails
are added up over all clients and pairs of stretches (union bound). The first kind of failure must
stay below 2^-80, so that clients who choose their keys last, and try 2^40 of them for the sake of
a bad order, succeed with probability 2^-40; the second kind below 2^-40.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qfl.errors import ConfigError

PRIVACY_BITS = 80
CORRECTNESS_BITS = 40
COMPLETE_UP_TO = 50
DROPOUT = 0.2
CORRUPTED = 0.1


@dataclass(frozen=True)
class Neighbourhood:
    """The numbers of one sum.

    Attributes:
        clients: Participants.
        degree: Neighbours of each; ``clients - 1`` where everybody is everybody's neighbour.
        threshold: Shares that open a client's secret, of ``degree + 1`` (its own among them).
        quorum: Signatures over the members of the sum, of ``clients``.
        spread: Fewest members of the sum on any two separate stretches of ``degree / 2`` positions
            of the ring; 0 where there is no ring.
    """

    clients: int
    degree: int
    threshold: int
    quorum: int
    spread: int

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.clients - 1


@lru_cache(maxsize=64)
def choose_neighbourhood(
    clients: int,
    *,
    dropout: float = DROPOUT,
    corrupted: float = CORRUPTED,
    privacy_bits: int = PRIVACY_BITS,
    correctness_bits: int = CORRECTNESS_BITS,
) -> Neighbourhood:
    """The smallest sound degree, and thresholds.

    Up to :data:`COMPLETE_UP_TO` clients, and where no smaller degree is sound, the graph is
    complete and nothing is left to chance: ``threshold`` is two thirds of the clients (rounded
    down) and one more, or what ``dropout`` leaves if that is less.

    Args:
        clients: Participants of the sum, at least 2.
        dropout: Largest share of them that vanishes, within [0, 1).
        corrupted: Largest share of them that colludes with the server, within [0, 1).
        privacy_bits: Colluding clients get what they must not with probability 2^-this at most.
        correctness_bits: The sum is lost with probability 2^-this at most.

    Raises:
        ConfigError: A number is out of range, or so many dropouts and colluding clients cannot be
            withstood together.

    Example:
        >>> choose_neighbourhood(10)
        Neighbourhood(clients=10, degree=9, threshold=7, quorum=7, spread=0)
    """
    if clients < 2:
        raise ConfigError(f"{clients} clients cannot be summed under masks: at least 2 are needed")
    for name, value in (("dropout", dropout), ("corrupted", corrupted)):
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"{name}={value} is not allowed: must be within [0, 1)")
    gone, bad = math.floor(dropout * clients), math.floor(corrupted * clients)
    quorum = min(2 * clients // 3 + 1, clients - gone)
    if 2 * quorum <= clients + bad:
        raise ConfigError(
            f"dropout={dropout} and corrupted={corrupted} cannot both be withstood with {clients} "
            f"clients: the {quorum} that are sure to stay could agree on two sums; 2 * dropout + "
            "corrupted must stay below 1"
        )
    complete = Neighbourhood(clients, clients - 1, quorum, quorum, 0)
    if clients <= COMPLETE_UP_TO:
        return complete
    # Two ways to fail each, and one bit between them.
    per_client = math.log2(clients) + 1
    per_pair = 2 * math.log2(clients)
    for degree in range(2, clients - 1, 2):
        held = most(clients - 1, bad, degree, privacy_bits + per_client)
        kept = degree - most(clients - 1, gone, degree, correctness_bits + per_client)
        crossing = most(clients, bad, degree, privacy_bits + per_pair)
        staying = degree - most(clients, gone, degree, correctness_bits + per_pair)
        if held < kept and crossing < staying:
            return Neighbourhood(clients, degree, kept, quorum, crossing + 1)
    return complete


def most(population: int, marked: int, drawn: int, bits: float) -> int:
    """The most marked among drawn ones, but with probability 2^-bits.

    Args:
        population: How many there are.
        marked: How many of them are marked.
        drawn: How many are drawn without putting back.
        bits: Minus the base-2 logarithm of the probability that more are marked.

    Example:
        >>> most(1000, 100, 50, 20)
        17
    """
    tails = log_tails(population, marked, drawn)
    return int(np.flatnonzero(tails[1:] <= -bits * math.log(2.0))[0])


def log_tails(population: int, marked: int, drawn: int) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities that at least 0, 1, ... of the drawn are marked.

    One entry more than can be: the last is minus infinity. Exact hypergeometric tails, up to
    rounding of logarithms.
    """
    count = min(marked, drawn)
    inside = np.arange(count + 1)
    possible = drawn - inside <= population - marked
    terms = np.full(count + 2, -np.inf)
    hits = inside[possible]
    terms[: count + 1][possible] = _log_choices(population, marked, hits, drawn) - _log_choose(
        population, drawn
    )
    return np.minimum(np.logaddexp.accumulate(terms[::-1])[::-1], 0.0)


def _log_choices(
    population: int, marked: int, hits: NDArray[np.int64], drawn: int
) -> NDArray[np.float64]:
    logs = _log_factorials(population)
    other, misses = population - marked, drawn - hits
    ways: NDArray[np.float64] = logs[marked] - logs[hits] - logs[marked - hits]
    ways += logs[other] - logs[misses] - logs[other - misses]
    return ways


def _log_choose(total: int, chosen: int) -> float:
    logs = _log_factorials(total)
    return float(logs[total] - logs[chosen] - logs[total - chosen])


@lru_cache(maxsize=4)
def _log_factorials(largest: int) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.concatenate(
        [[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))]
    )
    return logs
