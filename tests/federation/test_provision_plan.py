"""The file from which a federation is provisioned: what it may say, and what is said if not."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.errors import ConfigError
from qfl.federation.provision_plan import Address, read_plan
from qfl.identity.floor import Floor
from qfl.identity.policy import DEFAULT_PERMISSIONS

START = "federation: clinics\nserver: fl.example.org:9092\n"
SMALL = START + "members: {hub: [server], no: [client], 7: [client, key_holder]}\n"


def test_a_plan_says_what_stands_there() -> None:
    plan = read_plan(
        SMALL
        + "permissions: {train: [role:client], open: ['7']}\n"
        + "floor: {schemes: [ckks], min_clients: 3, clear: 0.25}\ndays: 90\n"
    )
    assert (plan.federation, plan.server) == ("clinics", Address("fl.example.org", 9092))
    assert plan.members == {"hub": ("server",), "no": ("client",), "7": ("client", "key_holder")}
    assert plan.permissions == {"train": ("role:client",), "open": ("7",)}
    assert plan.floor == Floor(schemes=("ckks",), min_clients=3, clear=0.25)
    assert plan.days == 90


def test_what_is_left_out() -> None:
    plan = read_plan(SMALL)
    assert plan.permissions == DEFAULT_PERMISSIONS
    assert (plan.floor, plan.days) == (Floor(), 365)


def test_the_example_is_one() -> None:
    plan = read_plan((Path(__file__).parents[2] / "examples" / "federation.yaml").read_text())
    assert sorted(plan.members) == ["clinic-1", "clinic-2", "clinic-3", "hub", "notary"]
    assert plan.floor.schemes == ("ckks", "packed")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the federation file must be a map, not nothing"),
        ("[]", "the federation file must be a map, not a list"),
        ("{", "the federation file cannot be read: "),
        ("!!python/object/apply:os.system [ls]", "must be a map, not a list"),
        ("[" * 5000, "the federation file cannot be read: "),
        (SMALL + "days: 1\ndays: 2", "key 'days' stands there twice"),
        (START, "the federation file has no key 'members'"),
        ("{member: {}}", "unknown key of the federation file 'member'; did you mean 'members'?"),
        (START + "members: []", "members must be a map, not a list"),
        (START + "members: {a: client}", "roles of member 'a' must be a list, not a text"),
        (START + "members: {a: [[client]]}", "each of roles of member 'a' must be a text"),
        (START + "members: {a: [clint]}", "member a: unknown role 'clint'; did you mean 'client'?"),
        (START + "members: {a: [operator]}", "member a: unknown role 'operator'"),
        (START + "members: {a: []}", "roles [] must be at least one"),
        (START + "members: {a: [client, client]}", "each once"),
        (START + "members: {operator: [client]}", "'operator' is who provisions"),
        (START + "members: {A: [client]}", "'A' is no name of a member"),
        (START + "members: {../a: [client]}", "'../a' is no name of a member"),
        (START + "members: {a: [server, key_holder]}", "cannot be both server and key_holder"),
        (START + "members: {a: [client]}", "one server, not 0; give one member role server"),
        (START + "members: {a: [server], b: [server]}", "one server, not 2 (a, b)"),
        (SMALL.replace("clinics", "The Clinics"), "'The Clinics' is no name of a federation"),
        (SMALL.replace("clinics", "[a]"), "federation must be a text, not a list"),
        (SMALL + "permissions: []", "permissions must be a map, not a list"),
        (SMALL + "permissions: {open: [role:server]}", "open cannot be granted to role:server"),
        (SMALL + "permissions: {open: [hub]}", "open cannot be granted to member hub"),
        (SMALL + "permissions: {open: [nobody]}", "unknown member 'nobody'"),
        (SMALL + "permissions: {opn: []}", "unknown permission 'opn'; did you mean 'open'?"),
        (SMALL + "floor: [ckks]", "floor must be a map, not a list"),
        (SMALL + "floor: {scheme: [ckks]}", "unknown key 'scheme'; did you mean 'schemes'?"),
        (SMALL + "floor: {schemes: [ckk]}", "unknown name 'ckk'; did you mean 'ckks'?"),
        (SMALL + "floor: {schemes: ckks}", "schemes='ckks' must be a list of names"),
        (SMALL + "floor: {min_clients: few}", "floor: min_clients 'few' must be a number"),
        (SMALL + "floor: {min_clients: 2.5}", "floor: min_clients '2.5' must be a number"),
        (SMALL + "floor: {min_clients: 1}", "min_clients=1 must be a whole number >= 2"),
        (SMALL + "floor: {clear: nan}", "clear=nan must be a share from 0 to 1"),
        (SMALL + "days: soon", "days 'soon' must be a whole number from 1 to 825"),
        (SMALL + "days: 0", "days '0' must be a whole number from 1 to 825"),
        (SMALL + "days: 826", "days '826' must be a whole number from 1 to 825"),
        (SMALL + "days: [1]", "days must be a text, not a list"),
    ],
    ids=range(40),
)
def test_files_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("hub:1", "hub", 1),
        ("FL.Example.org:65535", "fl.example.org", 65535),
        ("10.0.0.7:9092", "10.0.0.7", 9092),
        ("[2001:DB8:0::7]:9092", "2001:db8::7", 9092),
        ("localhost:9092", "localhost", 9092),
        ("xn--bcher-kva.example:9092", "xn--bcher-kva.example", 9092),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.of(text) == Address(host, port)
    assert Address.of(str(Address.of(text))) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "hub", "hub:", ":9092", "hub:port", "hub:0", "hub:65536", "hub:-1", "hub:1.5"),
        *("http://hub:9092", "hub/a:9092", "hub:9092/a", "h b:1", "-hub:1", "hub-:1", "a..b:1"),
        *("1.2.3:9092", "1.2.3.256:9092", "10.0.0.7.:1", "*.example.org:1", "bücher.example:1"),
        *("::1:9092", "[::1]", "[::1:9092", "[hub]x:1", "0.0.0.0:9092", "[::]:9092"),
        *("224.0.0.1:1", "[fe80::1%eth0]:1", "a" * 64 + ":1", "a." * 127 + "a:1", "hub:٣"),
    ],
    ids=range(32),
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^server"):
        Address.of(text)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("{}[]:,&*!?|>-'\"%@`\\ \n#ab\t0", max_size=40)))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(ConfigError):
        read_plan(text)
    with pytest.raises(ConfigError):
        Address.of(text + "?")
