"""Kits as they are made: what is in them, who may read them, and what `check` finds."""

from __future__ import annotations

import json
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from provisioned import OTHER_PHRASE, PHRASE, a_plan, contents

from qfl.errors import ConfigError, QflError, StorageError
from qfl.federation.provision import provision
from qfl.federation.provision_check import SOON_DAYS, check_kit, soon
from qfl.federation.provision_kit import unpack
from qfl.federation.provision_office import load_office
from qfl.identity.credential_files import load_credentials
from qfl.identity.floor import Floor
from qfl.identity.identity import DAY
from qfl.identity.kit_manifest import sign_manifest
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.sealed_folder import seal_folder

CREDENTIALS = {
    *("identity.key", "unlock.key", "chain.cbor", "operator.cbor", "policy.cbor"),
    *("revocations.cbor", "floor.json", "kit.json", "manifest.cbor", "tls/ca.crt"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kits that no test changes."""
    kits = tmp_path_factory.mktemp("made") / "kits"
    provision(a_plan("floor: {schemes: [ckks], min_clients: 2}\ndays: 100"), kits)
    return kits


@pytest.fixture
def kits(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "kits"))


def found(kit: Path, **how: object) -> str:
    """All that is wrong, in one text."""
    findings = check_kit(kit, **how).findings  # type: ignore[arg-type]
    assert all(one.what and one.mend for one in findings)
    return "\n".join(f"{one.what} -> {one.mend}" for one in findings)


def test_every_kit_has_its_files(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        *("clinic-1", "clinic-2", "hub", "notary", "operator")
    ]
    for name in ("clinic-1", "clinic-2", "notary"):
        assert contents(made / name).keys() == CREDENTIALS | {"node.key", "node.pub"}
    assert contents(made / "hub").keys() == CREDENTIALS | {"tls/server.crt", "tls/server.key"}
    assert contents(made / "operator").keys() == {
        *("identity.key", "unlock.key", "ca.crt", "ca.key", "federation.json"),
        *("policy.cbor", "revocations.cbor"),
    }


def test_nobody_else_reads_them(made: Path) -> None:
    for path in (made, *made.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_label_and_the_operators_memory(made: Path) -> None:
    label = json.loads((made / "clinic-1" / "kit.json").read_text())
    own = load_credentials(made / "clinic-1")
    when = label.pop("made")
    assert abs(time.time() - time.mktime(time.strptime(when, "%Y-%m-%dT%H:%M:%SZ"))) < 2 * DAY
    assert label == {
        "format": 1,
        "federation": "clinics",
        "name": "clinic-1",
        "roles": ["client"],
        "server": "fl.example.org:9092",
        "did": own.did,
    }
    state = json.loads((made / "operator" / "federation.json").read_text())
    assert (state["federation"], state["days"], state["policy"]) == ("clinics", 100, 1)
    member = state["members"]["clinic-1"]
    assert member["dids"] == [own.did]
    assert member["node_key"] == (made / "clinic-1" / "node.pub").read_text().strip()
    assert len(state["members"]["hub"]["certificates"]) == 1


def test_credentials_are_those_of_the_plan(made: Path) -> None:
    clinic, hub = load_credentials(made / "clinic-1"), load_credentials(made / "hub")
    assert (clinic.floor, hub.floor) == (Floor(schemes=("ckks",)), Floor())
    clinic.registry.admit(hub.chain)
    clinic.permit(hub.did, "serve")
    clinic.permit(clinic.did, "train")
    with pytest.raises(RefusedError):
        clinic.permit(clinic.did, "open")
    lasts = clinic.identity.description.not_after - time.time()
    assert 99 * DAY < lasts <= 100 * DAY
    policy = clinic.registry.policy
    assert policy is not None and policy.by_did[policy.issuer].name == "operator"


def test_two_kits_share_no_secret(made: Path) -> None:
    secrets = ("identity.key", "unlock.key", "node.key")
    each = [
        (made / name / file).read_bytes() for name in ("clinic-1", "notary") for file in secrets
    ]
    assert len(set(each)) == len(each)
    inside = b"".join(contents(made / "clinic-1").values())
    for file in ("ca.key", "unlock.key"):
        assert (made / "operator" / file).read_bytes() not in inside


def test_a_folder_that_holds_something_is_left_alone(made: Path, tmp_path: Path) -> None:
    before = contents(made)
    with pytest.raises(StorageError, match="is there already"):
        provision(a_plan(), made)
    assert contents(made) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        provision(a_plan(), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    provision(a_plan(members="{hub: [server]}"), tmp_path / "empty")
    assert found(tmp_path / "empty" / "hub") == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qfl.federation.provision_commit.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        provision(a_plan(members="{hub: [server]}"), tmp_path / "kits")
    assert list(tmp_path.iterdir()) == []


def test_kits_hold(made: Path) -> None:
    operator = load_office(made).operator.did
    for name in ("clinic-1", "clinic-2", "notary", "hub"):
        verdict = check_kit(made / name, operator=operator)
        assert verdict.findings == []
        assert (verdict.name, verdict.federation) == (name, "clinics")
        assert verdict.operator == operator
        assert ("server certificate" in verdict.ends) == (name == "hub")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_byte_of_a_kit_can_be_changed(made: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["hub", "clinic-1"]))
    path = data.draw(st.sampled_from(sorted(contents(made / name))))
    file = made / name / path
    before = file.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        file.write_bytes(bytes(changed))
        assert found(made / name)
    finally:
        file.write_bytes(before)
    assert path != "kit.json" or found(made / name) == ""


@pytest.mark.parametrize("path", sorted(CREDENTIALS | {"tls/server.crt", "tls/server.key"}))
def test_every_file_is_missed(kits: Path, path: str) -> None:
    (kits / "hub" / path).unlink()
    said = found(kits / "hub")
    assert "anew from the operator" in said
    assert path == "manifest.cbor" or f"{path} is missing" in said


def test_files_that_do_not_belong(kits: Path) -> None:
    (kits / "hub" / "notes.txt").touch(mode=0o600)
    assert "notes.txt does not belong to the kit" in found(kits / "hub")


@pytest.mark.parametrize(
    ("path", "mode", "mend"),
    [
        (".", 0o750, "chmod 700"),
        ("tls", 0o711, "chmod 700"),
        ("node.key", 0o604, "chmod 600"),
        ("floor.json", 0o620, "chmod 600"),
    ],
)
def test_modes_are_checked(kits: Path, path: str, mode: int, mend: str) -> None:
    target = kits / "clinic-1" / path
    target.chmod(mode)
    said = found(kits / "clinic-1")
    assert f"{mend} {target}" in said and f"mode {mode:04o}" in said
    target.chmod(0o700 if target.is_dir() else 0o600)
    assert found(kits / "clinic-1") == ""


def test_links_are_no_files(kits: Path, tmp_path: Path) -> None:
    (kits / "hub" / "floor.json").rename(tmp_path / "floor.json")
    (kits / "hub" / "floor.json").symlink_to(tmp_path / "floor.json")
    assert "is a link" in found(kits / "hub")


def resign(kits: Path, name: str, change: Callable[[dict[str, bytes]], None]) -> None:
    """The operator signs a kit that does not belong together."""
    office, files = load_office(kits), contents(kits / name)
    files.pop("manifest.cbor")
    change(files)
    for path, data in files.items():
        (kits / name / path).write_bytes(data)
    manifest = sign_manifest(office.operator, "clinics", name, files)
    (kits / name / "manifest.cbor").write_bytes(manifest.to_bytes())


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        ("hub", "tls/server.key", "tls/server.key is no key"),
        ("clinic-1", "node.pub", "node.pub is not the public half of node.key"),
        ("clinic-1", "chain.cbor", "are of different identities"),
        ("clinic-1", "kit.json", "kit.json is of 'notary'"),
        ("clinic-1", "policy.cbor", "damaged"),
    ],
)
def test_what_does_not_belong_together_is_found_although_signed(
    kits: Path, name: str, path: str, words: str
) -> None:
    def swap(files: dict[str, bytes]) -> None:
        files[path] = contents(kits / "notary").get(path, b"x")
        if path == "policy.cbor":
            files[path] = b"x"

    resign(kits, name, swap)
    assert words in found(kits / name)


@pytest.mark.parametrize(
    "label", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b'{"format": 2}', b"[" * 100_000]
)
def test_labels_that_are_none(kits: Path, label: bytes) -> None:
    resign(kits, "hub", lambda files: files.update({"kit.json": label}))
    assert "kit.json" in found(kits / "hub")


def test_a_kit_of_another_operator_is_found_by_its_identifier(kits: Path, tmp_path: Path) -> None:
    provision(a_plan(), tmp_path / "evil")
    operator = load_office(kits).operator.did
    assert found(tmp_path / "evil" / "hub") == ""
    assert "the operator of this kit is" in found(tmp_path / "evil" / "hub", operator=operator)
    with pytest.raises(RefusedError):
        check_kit(kits / "hub", operator="did:qfl:me")


def test_what_runs_out_is_told(tmp_path: Path) -> None:
    now = time.time()
    plan = a_plan("days: 100", members="{hub: [server]}")
    provision(plan, tmp_path / "soon", now=now - 80 * DAY)
    verdict = check_kit(tmp_path / "soon" / "hub")
    assert verdict.findings == []
    assert soon(verdict, now) == ["identity", "revocation list", "server certificate"]
    assert soon(verdict, now - (SOON_DAYS - 9) * DAY) == []
    provision(plan, tmp_path / "late", now=now - 101 * DAY)
    said = found(tmp_path / "late" / "hub")
    assert "tls/server.crt was valid until" in said and "ran out on" in said
    assert said.count("ask the operator for qfl provision rotate") == 2
    provision(plan, tmp_path / "early", now=now + 2 * DAY)
    assert "set the clock right" in found(tmp_path / "early" / "hub")


def test_what_is_no_kit(kits: Path, tmp_path: Path) -> None:
    for path, words in [
        (kits / "operator", "is an operator's folder"),
        (tmp_path / "nothing", "is no folder"),
        (kits / "hub" / "kit.json", "is sealed"),
    ]:
        with pytest.raises(StorageError, match=words):
            check_kit(path)
    (tmp_path / "empty").mkdir(mode=0o700)
    assert "manifest" in found(tmp_path / "empty")


def test_an_operators_folder_under_a_passphrase(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    made = provision(a_plan(members="{hub: [server]}"), kits, passphrase=PHRASE)
    assert contents(kits / "operator").keys() == {
        *("identity.key", "ca.crt", "ca.key.sealed", "federation.json"),
        *("policy.cbor", "revocations.cbor"),
    }
    assert all(b"PRIVATE KEY" not in data for data in contents(kits / "operator").values())
    assert load_office(kits, PHRASE).operator.did == made.operator.did
    with pytest.raises(RefusedError) as caught:
        load_office(kits, OTHER_PHRASE)
    assert caught.value.reason is Refusal.PASSPHRASE
    with pytest.raises(ConfigError, match="give --passphrase-file"):
        load_office(kits)


def test_sealed_kits_are_files_that_unpack_to_what_was_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(seal_folder.__kwdefaults__, "cost", 15)
    kits = tmp_path / "kits"
    plan = a_plan(members="{hub: [server], clinic-1: [client]}")
    provision(plan, kits, encrypt=PHRASE)
    names = sorted(path.name for path in kits.iterdir())
    assert names == ["clinic-1.kit", "hub.kit", "operator"]
    sealed = kits / "clinic-1.kit"
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    for hidden in (b"clinic-1", b"node.key", b"OPENSSH"):
        assert hidden not in sealed.read_bytes()
    unpack(sealed, tmp_path / "mine", PHRASE)
    assert contents(tmp_path / "mine").keys() == CREDENTIALS | {"node.key", "node.pub"}
    for path in ((tmp_path / "mine"), *(tmp_path / "mine").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert found(tmp_path / "mine") == ""
    with pytest.raises(StorageError, match="is there already"):
        unpack(sealed, tmp_path / "mine", PHRASE)
    with pytest.raises(RefusedError, match="the passphrase is wrong"):
        unpack(sealed, tmp_path / "other", OTHER_PHRASE)
    with pytest.raises(StorageError, match="is sealed: qfl provision unpack"):
        check_kit(sealed)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "notes.txt", "tls/../../x"])
def test_a_sealed_file_writes_nothing_but_a_kit(tmp_path: Path, path: str) -> None:
    sealed = tmp_path / "evil.kit"
    sealed.touch(mode=0o600)
    sealed.write_bytes(seal_folder({"manifest.cbor": b"", path: b"evil"}, PHRASE, cost=15))
    with pytest.raises(RefusedError, match="something else than a kit"):
        unpack(sealed, tmp_path / "out", PHRASE)
    assert [one.name for one in tmp_path.iterdir()] == ["evil.kit"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("federation.json", b"{", "is damaged"),
        ("federation.json", b"[]", "is damaged"),
        ("federation.json", b'{"format": 2}', "has format 2; this qfl reads format 1"),
        ("federation.json", b'{"format": 1}', "is damaged"),
        ("ca.key", b"", "ca.key is no key"),
        ("policy.cbor", b"", "policy is damaged"),
    ],
)
def test_an_operators_folder_that_is_damaged(
    kits: Path, name: str, data: bytes, words: str
) -> None:
    (kits / "operator" / name).write_bytes(data)
    with pytest.raises(QflError, match=words):
        load_office(kits)


def test_an_operators_folder_of_two_times(kits: Path, tmp_path: Path) -> None:
    path = kits / "operator" / "federation.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"policy": 7}))
    with pytest.raises(StorageError, match="are of different times"):
        load_office(kits)
    provision(a_plan(members="{hub: [server]}"), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "operator" / "policy.cbor", kits / "operator")
    with pytest.raises(StorageError, match="cannot be used: policy 1 is issued by"):
        load_office(kits)


def test_secrets_are_in_no_text_that_python_makes(made: Path) -> None:
    office = load_office(made)
    said = repr(office) + repr(office.authority) + repr(office.operator)
    assert "PRIVATE" not in said and office.operator.signing.secret.hex() not in said
