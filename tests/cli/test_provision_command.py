"""``qfl provision``: what it prints, what it refuses, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from calls import Call

from qfl.identity.sealed_folder import seal_folder

PLAN = """\
federation: clinics
server: fl.example.org:9092
members: {hub: [server], notary: [key_holder], clinic-1: [client]}
permissions: {train: [role:client], serve: [role:server], open: [notary]}
"""


@pytest.fixture
def plan() -> str:
    Path("clinics.yaml").write_text(PLAN)
    return "clinics.yaml"


def phrase(name: str, text: str = "correct horse battery\n") -> str:
    Path(name).touch(mode=0o600)
    Path(name).write_text(text)
    return name


@pytest.mark.parametrize("arguments", [[], ["-h"], ["help"], ["add", "--help"]])
def test_help(call: Call, arguments: list[str]) -> None:
    code, output, errors = call("provision", *arguments)
    assert (code, errors) == (0, "")
    assert "usage: qfl provision FEDERATION.yaml -o KITS\n" in output
    assert "provision FEDERATION.yaml -o KITS" in call("--help")[1]


def test_a_federation_from_its_file_to_its_end(call: Call, plan: str) -> None:
    code, output, errors = call("provision", plan, "-o", "kits")
    assert (code, errors) == (0, "")
    assert "Federation clinics, server fl.example.org:9092\n  kits/clinic-1: client\n" in output
    operator = output.split("Operator: ")[1].split("\n")[0]

    code, output, errors = call("provision", "add", "kits", "clinic-2", "--role", "client")
    assert (code, errors) == (0, "")
    assert output == (
        "kits/clinic-2: the whole kit\n"
        "kits/hub: manifest.cbor, policy.cbor, revocations.cbor\n"
        "Policy 2, revocations 2\n"
        "Bring hub's kit to the server: once loaded there, it is told to the others.\n"
    )
    assert call("provision", "rotate", "kits", "clinic-1")[0] == 0
    output = call("provision", "revoke", "kits", "notary", "--reason", "left")[1]
    assert "Permission open was granted by name; left: nobody\nPolicy 3, revocations 4\n" in output

    code, output, errors = call("provision", "check", "kits/clinic-2", "--operator", operator)
    assert (code, errors) == (0, "")
    assert output.startswith("kits/clinic-2\nKit of clinic-2 (client) in federation clinics\n")
    assert output.endswith("All holds.\n") and "compare the identifier" not in output
    output = call("provision", "check", "kits/hub")[1]
    assert "Z: server certificate\n" in output and "compare the identifier" in output
    verdict = json.loads(call("provision", "check", "kits/hub", "--json")[1])
    assert (verdict["holds"], verdict["name"], verdict["operator"]) == (True, "hub", operator)

    code, output, errors = call("provision", "check", "kits/notary")
    assert code == 6
    assert "WRONG: " in output and "was revoked (left)" in output
    assert "All holds" not in output
    assert errors == "qfl: kits/notary must not be used: 1 found\n"
    code, output, again = call("provision", "check", "kits/notary", "--json")
    assert (code, again) == (6, errors)
    verdict = json.loads(output)
    assert verdict["holds"] is False and verdict["findings"][0]["mend"]


def test_sealed(call: Call, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(seal_folder.__kwdefaults__, "cost", 15)
    own, kit = phrase("own"), phrase("kit", "another horse battery")
    secrets = ["--passphrase-file", own, "--encrypt", kit]
    code, output, errors = call("provision", plan, "-o", "kits", *secrets)
    assert (code, errors) == (0, "")
    assert "  kits/clinic-1.kit: client\n" in output
    code, output, _ = call("provision", "add", "kits", "x", "--role", "client", *secrets)
    assert code == 0 and output.startswith("kits/hub.kit: the whole kit\nkits/x.kit: the whole kit")
    unpack = ["provision", "unpack", "kits/x.kit", "-o", "x", "--passphrase-file"]
    code, _, errors = call(*unpack, own)
    assert code == 6 and "the passphrase is wrong" in errors
    assert call(*unpack, kit)[0] == 0
    assert call("provision", "check", "x")[0] == 0
    code, _, errors = call("provision", "rotate", "kits", "x", "--encrypt", kit)
    assert code == 2 and "give --passphrase-file" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["chek", "kits"], 2, "unknown command or file of qfl provision 'chek'; did you mean 'ch"),
        (["nothing.yaml", "-o", "kits"], 7, "cannot read nothing.yaml"),
        (["clinics.yaml"], 2, "required: -o/--output"),
        (["bad.yaml", "-o", "kits"], 2, "the federation file has no key 'server'"),
        (["binary.yaml", "-o", "kits"], 2, "binary.yaml is no text in UTF-8"),
        (["clinics.yaml", "-o", "."], 7, "is there already"),
        (["add", "kits", "x", "--role", "client"], 7, "the folder that qfl provision made"),
        (["add", "kits", "x"], 2, "required: --role"),
        (["revoke", "kits", "x"], 2, "required: --reason"),
        (["revoke", "kits", "x", "--reason", "bored"], 2, "unknown reason 'bored'"),
        (["check", "kits"], 7, "kits is no folder"),
        (["unpack", "kits", "-o", "x"], 2, "required: --passphrase-file"),
        (["clinics.yaml", "-o", "k", "--encrypt", "open"], 6, "run: chmod 600 open"),
        (["clinics.yaml", "-o", "k", "--encrypt", "short"], 2, "of at least 12 characters"),
        (["clinics.yaml", "-o", "k", "--encrypt", "lines"], 2, "must hold one line"),
        (["clinics.yaml", "-o", "k", "--encrypt", "binary"], 2, "holds no passphrase"),
        (["clinics.yaml", "-o", "k", "--encrypt", "none"], 7, "cannot read none"),
    ],
    ids=range(17),
)
def test_what_is_refused(
    call: Call, plan: str, arguments: list[str], code: int, words: str
) -> None:
    Path("bad.yaml").write_text("federation: a")
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    Path("open").touch(mode=0o644)
    Path("open").chmod(0o644)
    phrase("short", "short\n")
    phrase("lines", "correct horse\nbattery staple\n")
    Path("binary").touch(mode=0o600)
    Path("binary").write_bytes(b"\xff" * 20)
    given, _, errors = call("provision", *arguments)
    assert (given, words in errors) == (code, True), errors
    assert "horse" not in errors
    assert not Path("k").exists() and not Path("kits").exists()


def test_it_answers_without_what_it_does_not_need() -> None:
    code = (
        "import sys; from qfl import cli; cli.main(['provision', '-h'])\n"
        "print([name for name in ('torch', 'flwr', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
