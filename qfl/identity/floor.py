"""The weakest terms on which a node takes part; from its own settings, never from a server.

Those of differential privacy are in :mod:`qfl.privacy.floor`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from qfl.conf.trust import RELEASES, TRUSTS
from qfl.crypto.step import Step
from qfl.errors import ConfigError, unknown_name
from qfl.identity.refusal import Refusal, RefusedError

# A server says how many clients there are once it has met them.
_AFTER_MEETING = ("sum", "train", "evaluate", "open")


@dataclass(frozen=True)
class Floor:
    """What a node insists on.

    Attributes:
        schemes: Aggregation schemes that it accepts.
        trusts: Who may open sums; see :data:`qfl.conf.trust.TRUSTS`. ``none`` is masking's, and
            that of scheme ``plain``, which takes no part unless ``schemes`` names it.
        releases: Who may learn what is opened.
        min_clients: Fewest contributions in a sum that is opened, and fewest clients of a run.
        clear: Largest share of an update that may travel in the clear, 0 to 1.

    Raises:
        ConfigError: A name is not known, a value of a wrong type or out of range, or no scheme
            goes with the rest.

    Example:
        >>> Floor(schemes=("ckks", "packed")).check_unprotected()
        Traceback (most recent call last):
        ...
        qfl.errors.RefusedError: the server asks for an unprotected reply; this client requires scheme ckks or packed
    """  # noqa: E501

    schemes: tuple[str, ...] = ("ckks", "packed", "hybrid", "masking")
    trusts: tuple[str, ...] = ("key_holder", "committee", "shared", "none")
    releases: tuple[str, ...] = RELEASES
    min_clients: int = 2
    clear: float = 0.0

    def __post_init__(self) -> None:
        every = {trust for trusts in TRUSTS.values() for trust in trusts}
        _check_names("schemes", self.schemes, TRUSTS)
        _check_names("trusts", self.trusts, every)
        _check_names("releases", self.releases, RELEASES)
        if not isinstance(self.min_clients, int) or self.min_clients < 2:
            raise ConfigError(
                f"floor: min_clients={self.min_clients!r} must be a whole number >= 2: a sum of "
                "one update is that update"
            )
        if type(self.clear) not in (int, float) or not 0 <= self.clear <= 1:
            raise ConfigError(f"floor: clear={self.clear!r} must be a share from 0 to 1")
        opened = {
            trust for scheme in self.schemes for trust in TRUSTS[scheme] if trust in self.trusts
        }
        if not opened:
            raise ConfigError(
                f"floor: schemes {', '.join(self.schemes)} go with none of trusts "
                f"{', '.join(self.trusts)}, so nothing would be accepted"
            )
        if opened == {"none"} and "server" not in self.releases:
            raise ConfigError(
                f"floor: releases clients goes with none of schemes {', '.join(self.schemes)} "
                "under trusts none, where the server opens, so nothing would be accepted"
            )

    def check(self, step: Step) -> None:
        """Refuse weaker terms, by name.

        Args:
            step: What the server asks for.

        Raises:
            RefusedError: Says what was asked for and what this node requires (floor).
        """
        _one_of("scheme", step.scheme, self.schemes)
        _one_of("trust", step.trust, self.trusts)
        _one_of("release", step.release, self.releases)
        self._at_least("min_clients", step.min_clients)
        if step.step in _AFTER_MEETING:
            self._at_least("clients", step.clients)

    def check_clear(self, share: float) -> None:
        """Refuse a larger part in the clear.

        Args:
            share: Of an update's coordinates, 0 to 1.

        Raises:
            RefusedError: Says what was asked for and what this node allows (floor).
        """
        # So written, a share that is no number is refused.
        if not share <= self.clear:
            raise _refused(
                f"{_percent(share)} of the update in the clear",
                f"allows at most {_percent(self.clear)}",
            )

    def check_unprotected(self) -> None:
        """Refuse a server that asks without any step, so that there are no terms to check.

        Raises:
            RefusedError: Always, also where scheme ``plain`` is accepted (floor).
        """
        raise _refused("an unprotected reply", f"requires scheme {' or '.join(self.schemes)}")

    def to_dict(self) -> dict[str, Any]:
        """Its settings, as JSON has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Floor:
        """The inverse of :meth:`to_dict`; what is left out is as it is unless set.

        Raises:
            ConfigError: A key is not known, or a value cannot be.

        Example:
            >>> Floor.from_dict({"schemes": ["masking"], "min_clients": 5})
            Floor(schemes=('masking',), trusts=('key_holder', 'committee', 'shared', 'none'), releases=('server', 'clients'), min_clients=5, clear=0.0)
        """  # noqa: E501
        if not isinstance(data, Mapping):
            raise ConfigError(f"floor: a map was expected, not {type(data).__name__}")
        known = [one.name for one in fields(Floor)]
        for name in data:
            if name not in known:
                raise ConfigError("floor: " + unknown_name("key", str(name), known))
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return Floor(**values)

    def _at_least(self, name: str, given: int) -> None:
        if given < self.min_clients:
            raise _refused(f"{name}={given}", f"requires at least {self.min_clients}")


def _one_of(name: str, given: str, accepted: tuple[str, ...]) -> None:
    if given not in accepted:
        raise _refused(f"{name} {given!a}", f"requires {' or '.join(accepted)}")


def _refused(asked: str, insists: str) -> RefusedError:
    return RefusedError(Refusal.FLOOR, f"the server asks for {asked}; this client {insists}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _check_names(field: str, names: object, allowed: Collection[str]) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"floor: {field}={names!r} must be a list of names")
    if not names:
        raise ConfigError(
            f"floor: {field} is empty, so nothing would be accepted; name some of "
            f"{', '.join(sorted(allowed))}"
        )
    for name in names:
        if name not in allowed:
            raise ConfigError(f"floor: {field}: " + unknown_name("name", name, allowed))
