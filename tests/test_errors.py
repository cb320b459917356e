"""Exit codes are a promise: scripts depend on them."""

from __future__ import annotations

import inspect

import pytest

from qfl import cli, errors
from qfl.errors import QflError, unknown_name

CODES = {
    "QflError": 1,
    "ConfigError": 2,
    "DataError": 3,
    "MissingDependencyError": 4,
    "FederationError": 5,
    "CryptoError": 6,
    "PayloadError": 6,
    "RefusedError": 6,
    "SignatureError": 6,
    "MisfitError": 6,
    "RangeError": 6,
    "OpeningRefusedError": 6,
    "StorageError": 7,
    "PrivacyError": 8,
    "BudgetSpentError": 8,
}


def test_every_error_has_its_code() -> None:
    found = {
        name: kind.exit_code
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, QflError)
    }
    assert found == CODES
    assert (errors.EXIT_OK, errors.EXIT_INTERRUPTED) == (0, 130)


def test_codes_are_documented_where_people_look() -> None:
    for code in {0, *CODES.values(), 130}:
        assert f"| {code} |" in (errors.__doc__ or "")
        assert f"{code} " in cli.USAGE.split("Exit codes:")[1]


@pytest.mark.parametrize(
    ("given", "allowed", "message"),
    [
        ("ckk", ["plain", "ckks"], "unknown x 'ckk'; did you mean 'ckks'? Known: ckks, plain"),
        ("zzz", ["plain", "ckks"], "unknown x 'zzz'. Known: ckks, plain"),
        ("a", [], "unknown x 'a'. Known: none"),
        ("", ["b", "a"], "unknown x ''. Known: a, b"),
    ],
)
def test_unknown_names_come_with_the_known_ones(
    given: str, allowed: list[str], message: str
) -> None:
    assert unknown_name("x", given, allowed) == message
