"""Who can open a sum, which scheme allows it, and what is then assumed of whom."""

from __future__ import annotations

from qfl.errors import ConfigError, unknown_name

TRUSTS = {
    "plain": ("none",),
    "ckks": ("key_holder", "shared"),
    "packed": ("key_holder", "shared"),
    "hybrid": ("key_holder", "committee", "shared"),
    "masking": ("none",),
}
RELEASES = ("server", "clients")
# Fewest updates in a sum.
FEWEST = {"plain": 1, "ckks": 2, "packed": 2, "hybrid": 3, "masking": 3}

_ADDS_HONESTLY = "; the server adds honestly"
_NO_IDENTITIES = "; honest-but-curious only, because no identities are configured"


def check_trust(scheme: str, trust: str, where: str = "") -> None:
    """Refuse a pair that does not exist, by name.

    Args:
        scheme: Aggregation scheme.
        trust: Who opens.
        where: Put before the names of fields in a refusal, such as ``strategy.``.

    Raises:
        ConfigError: The scheme is unknown, or cannot be opened that way.

    Example:
        >>> check_trust("masking", "committee")
        Traceback (most recent call last):
        ...
        qfl.errors.ConfigError: scheme=masking with trust=committee does not exist: committee goes with hybrid; set trust=none
    """  # noqa: E501
    if scheme not in TRUSTS:
        raise ConfigError(unknown_name("scheme", scheme, TRUSTS))
    every = {name for names in TRUSTS.values() for name in names}
    if trust not in every:
        raise ConfigError(unknown_name("trust", trust, every))
    if trust not in TRUSTS[scheme]:
        others = [name for name, allowed in TRUSTS.items() if trust in allowed]
        raise ConfigError(
            f"{where}scheme={scheme} with {where}trust={trust} does not exist: {trust} goes "
            f"with {', '.join(others)}; set {where}trust={' or '.join(TRUSTS[scheme])}"
        )


def check_release(scheme: str, trust: str, release: str, where: str = "") -> None:
    """Refuse a release that the scheme cannot keep.

    Raises:
        ConfigError: The release is unknown, or the server opens the sums itself.
    """
    if release not in RELEASES:
        raise ConfigError(unknown_name("release", release, RELEASES))
    if release == "clients" and trust == "none":
        raise ConfigError(
            f"{where}release=clients is not possible with scheme {scheme}, where the server opens "
            "sums: use ckks, packed or hybrid"
        )


def check_fewest(scheme: str, min_clients: int, where: str = "") -> None:
    """Refuse sums of so few that they give a client away.

    Raises:
        ConfigError: Says how many are needed, and why.
    """
    why = {
        "hybrid": "the released sum of keys must hide each of them",
        "masking": "shares are dealt among at least three",
    }
    if min_clients < (fewest := FEWEST[scheme]):
        reason = why.get(scheme, "a sum of one update is that update")
        raise ConfigError(
            f"{where}min_clients={min_clients} is not allowed with scheme {scheme}: must be >= "
            f"{fewest}, {reason}"
        )


def assumption(
    scheme: str, trust: str, threshold: int = 0, members: int = 0, *, identities: bool = False
) -> str:
    """What has to be true of the participants, in one sentence.

    Args:
        scheme: Aggregation scheme.
        trust: Who opens.
        threshold: Trust ``committee``: members that open together.
        members: Trust ``committee``: members in all.
        identities: Whether participants prove who they are.
    """
    check_trust(scheme, trust)
    unproven = "" if identities else _NO_IDENTITIES
    if scheme == "plain":
        return "the server reads every update"
    if scheme not in ("ckks", "packed", "hybrid", "masking"):
        return f"what scheme {scheme} promises; it is none of qfl's own"
    if scheme == "masking":
        return "an honest majority in every neighbourhood" + unproven
    twice = 2 * threshold - members
    said = {
        "key_holder": "server and key holder do not collude",
        "shared": "server and no client collude",
        "committee": f"fewer than {threshold} of the {members} committee members collude, "
        f"{'none' if twice == 1 else f'fewer than {twice}'} of them signs two sets for one sum, "
        "and at least three clients are honest",
    }[trust]
    if scheme == "hybrid":
        return f"{said}; scheme hybrid is experimental" + unproven
    return said + _ADDS_HONESTLY + unproven
