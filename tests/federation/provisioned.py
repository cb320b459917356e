"""What tests of provisioning share: a small federation, its kits, and what is in them."""

from __future__ import annotations

from pathlib import Path

from qfl.federation.provision_plan import Plan, read_plan

PHRASE, OTHER_PHRASE = "correct horse battery", "incorrect horse battery"


def a_plan(more: str = "", *, members: str = "") -> Plan:
    """A hub, a notary and two clinics."""
    everybody = members or (
        "{hub: [server], notary: [key_holder], clinic-1: [client], clinic-2: [client]}"
    )
    return read_plan(
        f"federation: clinics\nserver: fl.example.org:9092\nmembers: {everybody}\n{more}"
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
