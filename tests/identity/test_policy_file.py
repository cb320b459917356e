"""The policy file that an operator writes, and the page that shows one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qfl.errors import ConfigError
from qfl.identity.identity import Identity
from qfl.identity.policy import DEFAULT_PERMISSIONS, Enrolled, read_policy, sign_policy


def a_did(number: int) -> str:
    """An identifier of nobody, another for each number; counted in base 8 from the right."""
    return "did:qfl:" + "".join("abcdefgh"[number >> 3 * at & 7] for at in range(50, -1, -1)) + "a"


TEXT = f"""
federation: clinics
members:
  notary: {{did: {a_did(3)}, roles: [key_holder]}}
  no: {{did: {a_did(1)}, roles: [operator, client]}}
  7: {{did: {a_did(2)}, roles: [client]}}
permissions:
  train: [role:client, notary]
  open: []
"""


def test_what_an_operator_wrote_is_signed_as_it_stands() -> None:
    draft = read_policy(TEXT)
    assert draft.federation == "clinics"
    assert [(one.name, one.did, one.roles) for one in draft.members] == [
        ("7", a_did(2), ("client",)),
        ("no", a_did(1), ("client", "operator")),
        ("notary", a_did(3), ("key_holder",)),
    ]
    assert draft.permissions == {"train": ("notary", "role:client"), "open": ()}
    policy = sign_policy(Identity.create(["operator"]), *draft)
    assert policy.may(a_did(3), "train") and not policy.may(a_did(3), "open")


def test_json_is_read_too() -> None:
    data = {
        "federation": "clinics",
        "members": {"notary": {"did": a_did(3), "roles": ["key_holder"]}},
        "permissions": {"open": ["notary"]},
    }
    for text in (json.dumps(data), json.dumps(data, indent=2)):
        assert read_policy(text).members == (Enrolled("notary", a_did(3), ("key_holder",)),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the policy file must be a map, not nothing"),
        ("[]", "the policy file must be a map, not a list"),
        ("clinics", "the policy file must be a map, not a text"),
        ("!!python/object/apply:os.system [ls]", "the policy file must be a map, not a list"),
        ("{federation: a, members: {}}", "the policy file has no key 'permissions'"),
        ("{member: {}}", "unknown key of the policy file 'member'; did you mean 'members'?"),
        ("{federation: a, federation: b}", "cannot be read: key 'federation' stands there twice"),
        (
            "{federation: [a], members: {}, permissions: {}}",
            "federation must be a text, not a list",
        ),
        ("{federation: A, members: {}, permissions: {}}", "'A' is no name of a federation"),
        ("{federation: a", "the policy file cannot be read: "),
        ("a: &a [*a]", "the policy file cannot be read: "),
        ("? [a]\n: 1", "the policy file cannot be read: "),
        ('"\\UFFFFFFFF": 1', "the policy file cannot be read: "),
        ("[" * 5000, "the policy file cannot be read: "),
        ("--- {}\n--- {}", "the policy file cannot be read: "),
    ],
    ids=range(15),
)
def test_files_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_policy(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("[]", "members must be a map, not a list"),
        ("{b: []}", "member 'b' must be a map, not a list"),
        ("{b: ROW, b: ROW}", "cannot be read: key 'b' stands there twice"),
        ("{b: {did: DID}}", "member 'b' has no key 'roles'"),
        ("{b: {did: DID, role: d}}", "unknown key of member 'b' 'role'; did you mean 'roles'?"),
        ("{b: {did: DID, roles: client}}", "roles of member 'b' must be a list, not a text"),
        ("{b: {did: DID, roles: [[c]]}}", "each of roles of member 'b' must be a text, not a list"),
        ("{b: {did: [], roles: [client]}}", "did of member 'b' must be a text, not a list"),
        ("{b: {did: c, roles: [client]}}", "cannot be signed: 'c' is no identifier"),
        ("{b: {did: DID, roles: [clerk]}}", "cannot be signed: member b: unknown role 'clerk'"),
        ("{b: {did: DID, roles: []}}", "roles [] must be at least one"),
        ("{b: {did: DID, roles: [server, key_holder]}}", "cannot be both server and key_holder"),
        ("{B: ROW}", "'B' is no name of a member"),
        ("{b: ROW, c: ROW}", "members b and c have one identifier"),
    ],
    ids=range(14),
)
def test_members_that_cannot_be(members: str, words: str) -> None:
    text = f"{{federation: a, members: {members}, permissions: {{}}}}"
    text = text.replace("ROW", "{did: DID, roles: [client]}").replace("DID", a_did(1))
    with pytest.raises(ConfigError) as caught:
        read_policy(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("permissions", "words"),
    [
        ("[]", "permissions must be a map, not a list"),
        ("{train: role:client}", "permission 'train' must be a list, not a text"),
        ("{train: [[b]]}", "each of permission 'train' must be a text, not a list"),
        ("{train: [], train: []}", "key 'train' stands there twice"),
        ("{trane: []}", "unknown permission 'trane'; did you mean 'train'?"),
        ("{train: [role:clients]}", "unknown role 'clients'; did you mean 'client'?"),
        ("{train: [c]}", "unknown member 'c'. Known: b; all in a role are role:NAME"),
        ("{train: [b, b]}", "permission train must name each grantee once"),
        ("{open: [role:server]}", "permission open cannot be granted to role:server"),
    ],
    ids=range(9),
)
def test_permissions_that_cannot_be(permissions: str, words: str) -> None:
    member = f"{{did: {a_did(1)}, roles: [client]}}"
    with pytest.raises(ConfigError) as caught:
        read_policy(f"{{federation: a, members: {{b: {member}}}, permissions: {permissions}}}")
    assert words in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("{}[]:,&*!?|>-'\"%@`\\ \n#ab\t0", max_size=40)))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(ConfigError):
        read_policy(text)


PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_runs_and_says_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    for code in blocks("python"):
        exec(code, space)
    printed = capsys.readouterr().out
    assert "clinic-1" in printed and "has no permission open here: policy 1" in printed
    assert "25% of the update in the clear; this client allows at most 0%" in printed
    (text,) = blocks("yaml")
    draft = read_policy(text)
    assert draft.permissions["open"] == ("notary",) and "serve" not in draft.permissions
    table = dict(re.findall(r"^\| `(\w+)` \| to .* \| `(role:\w+)` \|$", PAGE.read_text(), re.M))
    assert {name: (to,) for name, to in table.items()} == DEFAULT_PERMISSIONS
