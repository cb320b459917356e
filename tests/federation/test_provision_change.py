"""Members that come, go and get new keys, and that nobody else's kit changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from provisioned import OTHER_PHRASE, PHRASE, a_plan, contents

from qfl.errors import ConfigError, StorageError
from qfl.federation.provision import provision
from qfl.federation.provision_change import Keys, add_member, revoke_member, rotate_member
from qfl.federation.provision_check import check_kit
from qfl.federation.provision_kit import unpack
from qfl.federation.provision_office import load_office
from qfl.identity.credential_files import load_credentials
from qfl.identity.identity import DAY
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.sealed_folder import seal_folder

SERVED = {"hub/policy.cbor", "hub/revocations.cbor", "hub/manifest.cbor"}
OFFICE = {"operator/federation.json", "operator/policy.cbor", "operator/revocations.cbor"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kits that no test changes."""
    kits = tmp_path_factory.mktemp("made") / "kits"
    provision(a_plan(), kits)
    return kits


@pytest.fixture
def kits(made: Path, tmp_path: Path) -> Path:
    """A copy."""
    return Path(shutil.copytree(made, tmp_path / "kits"))


def changed(before: dict[str, bytes], kits: Path) -> set[str]:
    """Paths that are new, other or gone."""
    after = contents(kits)
    every = before.keys() | after.keys()
    return {path for path in every if before.get(path) != after.get(path)} - {".lock"}


def test_a_member_is_added_and_others_stay_as_they_are(kits: Path) -> None:
    before = contents(kits)
    done = add_member(kits, "clinic-3", ["key_holder", "client"])
    own = {path for path in contents(kits) if path.startswith("clinic-3/")}
    assert changed(before, kits) == SERVED | OFFICE | own
    assert set(done.written) == SERVED | own
    member = done.office.policy.by_did[load_credentials(kits / "clinic-3").did]
    assert (member.name, member.roles) == ("clinic-3", ("client", "key_holder"))
    assert done.office.policy.sequence == done.office.state.revocations == 2
    for name in ("hub", "clinic-1", "clinic-3"):
        assert check_kit(kits / name).findings == []
    # A member of the first hour takes the server's word for it, since the operator signed it.
    clinic, hub = load_credentials(kits / "clinic-1"), load_credentials(kits / "hub")
    new = load_credentials(kits / "clinic-3")
    assert hub.registry.policy is not None
    clinic.registry.enrol(hub.registry.policy, time.time())
    clinic.registry.admit(new.chain)
    clinic.permit(new.did, "open")


def test_a_member_is_revoked(kits: Path) -> None:
    gone = load_credentials(kits / "clinic-1")
    before = contents(kits)
    done = revoke_member(kits, "clinic-1", "lost")
    assert changed(before, kits) == SERVED | OFFICE
    assert "clinic-1" not in [one.name for one in done.office.policy.members]
    assert done.office.revocations.by_did[gone.did].reason == "lost"
    (former,) = json.loads((kits / "operator/federation.json").read_text())["revoked"]
    assert (former["name"], former["dids"], former["reason"]) == ("clinic-1", [gone.did], "lost")
    hub = load_credentials(kits / "hub")
    with pytest.raises(RefusedError) as caught:
        hub.registry.admit(gone.chain)
    assert caught.value.reason in (Refusal.REVOKED, Refusal.UNKNOWN_SENDER)
    (finding,) = check_kit(kits / "clinic-1").findings
    assert "was revoked (lost)" in finding.what and "new kit" in finding.mend
    assert check_kit(kits / "hub").findings == check_kit(kits / "clinic-2").findings == []
    with pytest.raises(ConfigError, match=r"unknown member 'clinic-1'.*was revoked \(lost\)"):
        rotate_member(kits, "clinic-1")


def test_a_name_is_free_again_once_its_kit_is_moved_away(kits: Path, tmp_path: Path) -> None:
    revoke_member(kits, "clinic-1", "replaced")
    before = contents(kits)
    with pytest.raises(StorageError, match="clinic-1 is there already"):
        add_member(kits, "clinic-1", ["client"])
    assert changed(before, kits) == set()
    (kits / "clinic-1").rename(tmp_path / "old")
    add_member(kits, "clinic-1", ["client"])
    assert check_kit(kits / "clinic-1").findings == []
    assert load_credentials(kits / "clinic-1").did != load_credentials(tmp_path / "old").did


def test_what_was_granted_by_name_goes_with_the_member(tmp_path: Path) -> None:
    kits = tmp_path / "kits"
    provision(a_plan("permissions: {open: [notary], train: [role:client, notary]}"), kits)
    done = revoke_member(kits, "notary", "left")
    assert sorted(done.dropped) == ["open", "train"]
    assert done.office.policy.permissions == {"open": (), "train": ("role:client",)}


def test_a_member_is_rotated(kits: Path) -> None:
    old, before = load_credentials(kits / "clinic-1"), contents(kits)
    rotate_member(kits, "clinic-1")
    own = {f"clinic-1/{path}" for path in contents(kits / "clinic-1")}
    same = ("floor.json", "operator.cbor", "policy.cbor", "tls/ca.crt")
    stays = {f"clinic-1/{path}" for path in same}
    assert changed(before, kits) == (own - stays) | (OFFICE | SERVED) - {
        *("operator/policy.cbor", "hub/policy.cbor")
    }
    new = load_credentials(kits / "clinic-1")
    assert [one.did for one in new.chain] == [old.did, new.did] and new.did != old.did
    assert new.chain[0] == old.chain[0]
    assert check_kit(kits / "clinic-1").findings == check_kit(kits / "hub").findings == []
    rotate_member(kits, "clinic-1")
    state = load_office(kits).state.members["clinic-1"]
    third = load_credentials(kits / "clinic-1")
    assert state.dids == (old.did, new.did, third.did)
    assert state.node_key == (kits / "clinic-1" / "node.pub").read_text().strip()
    # All of them count no longer once the member is revoked.
    done = revoke_member(kits, "clinic-1", "compromised")
    assert set(state.dids) <= set(done.office.revocations.by_did)


def test_the_server_is_rotated(kits: Path) -> None:
    before = contents(kits)
    rotate_member(kits, "hub")
    now = changed(before, kits)
    assert {"hub/tls/server.crt", "hub/tls/server.key", "hub/identity.key"} <= now
    assert {path.split("/")[0] for path in now} == {"hub", "operator"}
    assert len(set(load_office(kits).state.members["hub"].certificates)) == 2
    assert check_kit(kits / "hub").findings == []
    clinic, hub = load_credentials(kits / "clinic-1"), load_credentials(kits / "hub")
    clinic.registry.admit(hub.chain)
    clinic.permit(hub.did, "serve")


def test_a_server_is_replaced(kits: Path) -> None:
    with pytest.raises(ConfigError, match="hub is the server, and a federation has one"):
        add_member(kits, "hub-2", ["server"])
    before = contents(kits)
    revoke_member(kits, "hub", "compromised")
    assert changed(before, kits) == OFFICE
    before = contents(kits)
    add_member(kits, "clinic-3", ["client"])
    assert {path.split("/")[0] for path in changed(before, kits)} == {"operator", "clinic-3"}
    add_member(kits, "hub-2", ["server"])
    assert check_kit(kits / "hub-2").findings == []
    clinic, hub = load_credentials(kits / "clinic-1"), load_credentials(kits / "hub-2")
    assert hub.registry.policy is not None and hub.registry.revocations is not None
    clinic.registry.update(hub.registry.revocations, time.time())
    clinic.registry.enrol(hub.registry.policy, time.time())
    clinic.registry.admit(hub.chain)
    clinic.permit(hub.did, "serve")


@pytest.mark.parametrize(
    ("name", "roles", "words"),
    [
        ("clinic-1", ["client"], "member clinic-1 is there already"),
        ("operator", ["client"], "'operator' is who provisions"),
        ("Clinic", ["client"], "'Clinic' is no name of a member"),
        ("../x", ["client"], "'../x' is no name of a member"),
        ("x", ["clint"], "unknown role 'clint'; did you mean 'client'?"),
        ("x", ["operator"], "unknown role 'operator'"),
        ("x", [], "must be at least one"),
        ("x", ["server", "key_holder"], "cannot be both server and key_holder"),
    ],
    ids=range(8),
)
def test_members_that_cannot_be(kits: Path, name: str, roles: list[str], words: str) -> None:
    before = contents(kits)
    with pytest.raises(ConfigError) as caught:
        add_member(kits, name, roles)
    assert words in str(caught.value)
    assert changed(before, kits) == set()


def test_names_and_reasons_that_are_none(kits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown member 'clinic'; did you mean 'clinic-"):
        revoke_member(kits, "clinic", "lost")
    with pytest.raises(ConfigError, match="unknown reason 'lst'; did you mean 'lost'"):
        revoke_member(kits, "clinic-1", "lst")
    with pytest.raises(ConfigError, match="operator's own keys are neither revoked nor rotated"):
        rotate_member(kits, "operator")
    with pytest.raises(StorageError, match="give the folder that qfl provision made"):
        add_member(tmp_path, "x", ["client"])
    assert not (tmp_path / ".lock").exists()


def test_a_kit_that_was_altered_is_not_signed_again(kits: Path) -> None:
    (kits / "hub" / "floor.json").write_bytes(b"{}")
    before = contents(kits)
    for change in (
        lambda: add_member(kits, "x", ["client"]),
        lambda: revoke_member(kits, "clinic-1", "lost"),
        lambda: rotate_member(kits, "hub"),
    ):
        with pytest.raises(RefusedError, match=r"floor.json was changed"):
            change()
    shutil.rmtree(kits / "hub")
    shutil.copytree(kits / "notary", kits / "hub")
    with pytest.raises(RefusedError, match="it is the kit of notary in clinics"):
        add_member(kits, "x", ["client"])
    shutil.rmtree(kits / "hub")
    with pytest.raises(StorageError, match="are both missing"):
        add_member(kits, "x", ["client"])
    assert changed(before, kits) == {path for path in before if path.startswith("hub/")}


def test_keys_that_ran_out_cannot_be_rotated(tmp_path: Path) -> None:
    kits, now = tmp_path / "kits", time.time()
    provision(a_plan("days: 10"), kits, now=now - 11 * DAY)
    with pytest.raises(RefusedError, match="must be provisioned anew") as caught:
        rotate_member(kits, "clinic-1")
    assert caught.value.reason is Refusal.ROTATION
    # A list that ran out is no reason to sign no newer one.
    add_member(kits, "clinic-3", ["client"])
    assert check_kit(kits / "clinic-3").findings == []


def test_a_late_rotation_renews_all_that_would_run_out(tmp_path: Path) -> None:
    kits, now = tmp_path / "kits", time.time()
    provision(a_plan("days: 10", members="{hub: [server]}"), kits, now=now - 9 * DAY)
    rotate_member(kits, "hub")
    verdict = check_kit(kits / "hub", now=now + 9 * DAY)
    assert verdict.findings == []
    assert min(verdict.ends.values()) == pytest.approx(now + 10 * DAY, abs=30)


def test_under_passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(seal_folder.__kwdefaults__, "cost", 15)
    kits, keys = tmp_path / "kits", Keys(PHRASE, OTHER_PHRASE)
    assert PHRASE not in repr(keys)
    members = "{hub: [server], clinic-1: [client]}"
    provision(a_plan(members=members), kits, passphrase=PHRASE, encrypt=OTHER_PHRASE)
    before = contents(kits)
    for wrong, words in [
        (Keys(), "give --passphrase-file"),
        (Keys(PHRASE), "hub.kit is sealed: give its passphrase with --encrypt"),
    ]:
        with pytest.raises(ConfigError, match=words):
            revoke_member(kits, "clinic-1", "lost", wrong)
    with pytest.raises(RefusedError, match="the passphrase is wrong"):
        revoke_member(kits, "clinic-1", "lost", Keys(PHRASE, PHRASE))
    assert changed(before, kits) == set()
    add_member(kits, "clinic-2", ["client"], keys)
    assert changed(before, kits) == OFFICE | {"hub.kit", "clinic-2.kit"}
    rotate_member(kits, "clinic-1", keys)
    revoke_member(kits, "clinic-2", "left", keys)
    for name in ("hub", "clinic-1"):
        unpack(kits / f"{name}.kit", tmp_path / name, OTHER_PHRASE)
        assert check_kit(tmp_path / name).findings == []
    assert len(load_credentials(tmp_path / "clinic-1").chain) == 2
    hub = load_credentials(tmp_path / "hub").registry
    assert hub.policy is not None and hub.policy.sequence == 3


def test_two_at_once_do_not_get_in_each_others_way(kits: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from qfl.federation.provision_change import add_member\n"
        "for n in range(3): add_member(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', ['client'])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(kits), name]) for name in ("a", "b")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    office = load_office(kits)
    added = {f"{name}-{n}" for name in "ab" for n in range(3)}
    assert added <= office.state.members.keys()
    assert (office.policy.sequence, office.revocations.sequence) == (7, 7)
    for name in (*added, "hub"):
        assert check_kit(kits / name).findings == []
