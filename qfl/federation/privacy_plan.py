"""What a private run would cost, or how much noise it would need, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qfl.errors import ConfigError, unknown_name
from qfl.privacy.charge import Charge
from qfl.privacy.poisson import steps_of

MECHANISMS = ("dpsgd", "central", "distributed", "local")
NEIGHBOURS = {
    "dpsgd": "one record of one client added or removed",
    "central": "one client added or removed, with all its records",
    "distributed": "one client added or removed, with all its records",
    "local": "all records of one client exchanged for any others",
}
"""Whose presence or data cannot be told, by mechanism."""

# A coarser grid or a longer update costs hardly more; the ledger has the figures of a run.
_UNITS, _PARAMETERS = 2.0**20, 1000
_ROWS = 10


@dataclass(frozen=True)
class Key:
    """A key of the command line: the type of its value, and which values are allowed."""

    kind: Callable[[str], Any]
    right: Callable[[Any], bool]
    allowed: str
    only: tuple[str, ...] = MECHANISMS


_CLIENTS = ("central", "distributed", "local")
KEYS = {
    "mechanism": Key(str, MECHANISMS.__contains__, ""),
    "epsilon": Key(float, lambda value: 0 < value < math.inf, "a number > 0"),
    "noise_multiplier": Key(float, lambda value: 0 <= value < math.inf, "a number >= 0"),
    "delta": Key(float, lambda value: 0 < value < 1, "a number > 0 and < 1"),
    "rounds": Key(int, lambda value: 1 <= value <= 10**6, "a whole number, 1 to 1000000"),
    "accountant": Key(str, ("auto", "prv", "rdp").__contains__, "auto, prv or rdp"),
    "sample_rate": Key(float, lambda value: 0 < value <= 1, "a number > 0 and <= 1", ("dpsgd",)),
    "steps": Key(int, lambda value: value >= 1, "a whole number >= 1", ("dpsgd",)),
    "records": Key(int, lambda value: value >= 1, "a whole number >= 1", ("dpsgd",)),
    "batch_size": Key(int, lambda value: value >= 1, "a whole number >= 1", ("dpsgd",)),
    "local_epochs": Key(int, lambda value: value >= 1, "a whole number >= 1", ("dpsgd",)),
    "clients": Key(int, lambda value: value >= 1, "a whole number >= 1", _CLIENTS),
    "min_clients": Key(int, lambda value: value >= 1, "a whole number >= 1", ("distributed",)),
    "colluders": Key(int, lambda value: value >= 0, "a whole number >= 0", ("distributed",)),
}
DEFAULTS = {"mechanism": "dpsgd", "delta": 1e-5, "accountant": "auto"}


@dataclass(frozen=True)
class Plan:
    """What was asked and what came out.

    Attributes:
        asked: Values by key, defaults included.
        charge: What a round costs.
        budget: The epsilon that was asked for; None where the noise was given.
        curve: Pairs of rounds and the epsilon after them; the last has all rounds.
        accountant: ``prv`` or ``rdp``, whichever was used.
        warnings: What is wrong with the plan, in sentences.
    """

    asked: Mapping[str, Any]
    charge: Charge
    budget: float | None
    curve: Sequence[tuple[int, float]]
    accountant: str
    warnings: Sequence[str]

    @property
    def epsilon(self) -> float:
        """After all rounds."""
        return self.curve[-1][1]


def read_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Values by key, from ``key=value`` words; defaults included.

    Raises:
        ConfigError: A key is unknown, given twice or of no use here, or a value is not allowed.

    Example:
        >>> read_arguments(["epsilon=4", "rounds=50", "sample_rate=0.05", "steps=20"])["steps"]
        20
    """
    given: dict[str, Any] = {}
    for word in arguments:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"cannot read '{word}': write key=value, as in rounds=50")
        if name not in KEYS:
            raise ConfigError(unknown_name("key", name, KEYS))
        if name in given:
            raise ConfigError(f"{name} is given twice")
        given[name] = _value(name, text)
    values = {**DEFAULTS, **given}
    for name in given:
        if values["mechanism"] not in KEYS[name].only:
            raise ConfigError(
                f"{name}={given[name]} has no meaning with mechanism={values['mechanism']}: it "
                f"goes with mechanism={' or '.join(KEYS[name].only)}"
            )
    if "rounds" not in given:
        raise ConfigError("rounds is not set: say for how many rounds, as in rounds=50")
    if ("epsilon" in given) == ("noise_multiplier" in given):
        raise ConfigError(
            "set either epsilon, to be told the noise that it takes, or noise_multiplier, to be "
            "told the epsilon that it comes to"
        )
    return values


def make_plan(asked: Mapping[str, Any]) -> Plan:
    """Compute what was asked.

    Args:
        asked: What :func:`read_arguments` returns.

    Raises:
        ConfigError: Keys are missing, or contradict each other.
        PrivacyError: No noise is enough, or the accountant cannot account for the mechanism.
    """
    from qfl.privacy.accounting import chosen, epsilon_of
    from qfl.privacy.calibration import noise_multiplier_for

    charge_of = _charge_of(asked)
    rounds, delta, accountant = asked["rounds"], asked["delta"], asked["accountant"]
    if "epsilon" in asked:
        charge = charge_of(
            noise_multiplier_for(
                asked["epsilon"], delta, lambda z: [charge_of(z)] * rounds, accountant
            )
        )
    else:
        charge = charge_of(asked["noise_multiplier"])
    points = sorted({1, *(math.ceil(rounds * i / _ROWS) for i in range(1, _ROWS + 1))})
    return Plan(
        asked,
        charge,
        asked.get("epsilon"),
        [(count, epsilon_of([charge] * count, delta, accountant)) for count in points],
        chosen([charge] * rounds, accountant),
        _warnings(asked),
    )


def finite(value: float) -> float | None:
    """For JSON, which has no infinity."""
    return value if math.isfinite(value) else None


def epsilon_text(value: float) -> str:
    """For people.

    >>> epsilon_text(3.99712), epsilon_text(math.inf)
    ('3.997', 'infinite')
    """
    return f"{value:.4g}" if math.isfinite(value) else "infinite"


def _value(name: str, text: str) -> Any:
    key = KEYS[name]
    if name == "mechanism" and text not in MECHANISMS:
        raise ConfigError(unknown_name("mechanism", text, MECHANISMS))
    try:
        value = key.kind(text)
    except ValueError:
        value = None
    if value is None or not key.right(value):
        raise ConfigError(f"{name}={text} is not allowed: must be {key.allowed}")
    return value


def _charge_of(asked: Mapping[str, Any]) -> Callable[[float], Charge]:
    """What a round costs, by its noise multiplier."""
    if asked["mechanism"] == "dpsgd":
        rate, steps = _sampling(asked)
        return lambda z: Charge("gaussian", z, rate, steps)
    shares = _shares(asked)
    return lambda z: Charge(
        "discrete_gaussian", z, sensitivity=_UNITS, shares=shares, dimension=_PARAMETERS
    )


def _sampling(asked: Mapping[str, Any]) -> tuple[float, int]:
    """Probability with which a record is in a step, and steps of a round."""
    direct = {"sample_rate", "steps"} & set(asked)
    derived = {"batch_size", "local_epochs"} & set(asked)
    if direct and derived:
        raise ConfigError(
            f"{min(derived)} with {min(direct)}: set either sample_rate and steps, or records, "
            "batch_size and local_epochs"
        )
    if len(direct) == 2:
        return asked["sample_rate"], asked["steps"]
    if direct or not {"records", "batch_size"} <= set(asked):
        raise ConfigError(
            "mechanism=dpsgd needs sample_rate and steps, or records and batch_size (and "
            "local_epochs, 1 unless set), as in records=1000 batch_size=50"
        )
    records, size = asked["records"], asked["batch_size"]
    rate = min(1.0, size / records)
    return rate, steps_of(asked.get("local_epochs", 1), rate)


def _shares(asked: Mapping[str, Any]) -> int:
    if asked["mechanism"] != "distributed":
        return 1
    if "clients" not in asked:
        raise ConfigError("clients is not set: mechanism=distributed needs it, as in clients=10")
    clients = asked["clients"]
    fewest, colluders = asked.get("min_clients", clients), asked.get("colluders", 0)
    if fewest > clients:
        raise ConfigError(f"min_clients={fewest} is more than clients={clients}")
    if colluders >= fewest:
        raise ConfigError(
            f"colluders={colluders} with min_clients={fewest} leaves nobody whose noise counts: "
            "raise min_clients, or lower colluders"
        )
    return int(fewest - colluders)


def _warnings(asked: Mapping[str, Any]) -> list[str]:
    for name in ("records", "clients"):
        if name in asked and asked["delta"] > 1 / asked[name]:
            return [
                f"delta={asked['delta']:g} is above 1/{name} = {1 / asked[name]:.3g}: to publish "
                f"one of the {name} at random would count as private. Choose a delta well below."
            ]
    return []
