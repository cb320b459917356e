"""Several files changed as one: whatever crashes where, it is the old state or the new one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from provisioned import contents

from qfl.errors import StorageError
from qfl.federation import provision_commit
from qfl.federation.provision_commit import commit, create, locked

OLD = {"hub/policy.cbor": b"1", "hub/manifest.cbor": b"1", "hub/kit.json": b"k", "state": b"1"}
CHANGES = {
    "hub/policy.cbor": b"2",
    "hub/manifest.cbor": b"2",
    "clinic-9/tls/ca.crt": b"c",
    "clinic-9/kit.json": b"9",
    "state": b"2",
    "x.kit": b"x",
}
NEW = OLD | CHANGES


class CrashError(BaseException):
    """As if the power went: nothing of ours may run after it, so it is no Exception."""


@pytest.fixture
def kits(tmp_path: Path) -> Path:
    create(tmp_path / "kits", OLD)
    return tmp_path / "kits"


def found(kits: Path) -> dict[str, bytes]:
    """What is there, without the lock; nothing else may be left."""
    return {path: data for path, data in contents(kits).items() if path != ".lock"}


def test_all_is_changed_and_nothing_is_left(kits: Path) -> None:
    with locked(kits):
        commit(kits, CHANGES)
    assert found(kits) == NEW
    for path in kits.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def calls_to(monkeypatch: pytest.MonkeyPatch, stop: int) -> list[int]:
    """Count what touches the disk, and crash at one of them."""
    count = [0]

    def counted(name: str) -> None:
        real = getattr(os, name)

        def run(*given: Any, **more: Any) -> Any:
            count[0] += 1
            if count[0] == stop:
                raise CrashError
            return real(*given, **more)

        monkeypatch.setattr(provision_commit.os, name, run)

    for name in ("rename", "replace", "fsync"):
        counted(name)
    return count


def test_a_crash_anywhere_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        create(tmp_path / "kits", OLD)
        count = calls_to(patch, 0)
        with locked(tmp_path / "kits"):
            commit(tmp_path / "kits", CHANGES)
        steps = count[0]
    assert steps > 10
    outcomes = []
    for stop in range(1, steps + 1):
        kits = tmp_path / f"kits-{stop}"
        create(kits, OLD)
        with monkeypatch.context() as patch:
            # A process that dies clears nothing away.
            patch.setattr(provision_commit.shutil, "rmtree", lambda *a, **k: None)
            calls_to(patch, stop)
            with pytest.raises(CrashError), locked(kits):
                commit(kits, CHANGES)
        with locked(kits):
            pass
        assert found(kits) in (OLD, NEW)
        outcomes.append(found(kits) == NEW)
    # Once it is decided, it stays decided.
    assert outcomes == sorted(outcomes) and set(outcomes) == {False, True}


def test_a_second_crash_while_finishing_harms_nothing(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(provision_commit, "_finish", lambda kits: None)
        with locked(kits):
            commit(kits, CHANGES)
    assert found(kits) != NEW
    crashes = 0
    while (kits / ".change").exists():
        with monkeypatch.context() as patch:
            calls_to(patch, 3)  # it gets two steps further each time
            try:
                with locked(kits):
                    break
            except CrashError:
                crashes += 1
    assert crashes > 1
    with locked(kits):
        pass
    assert found(kits) == NEW


def test_the_manifest_comes_last(kits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        order.append(target.relative_to(kits).as_posix())
        real(source, target)

    monkeypatch.setattr(provision_commit.os, "replace", replace)
    with locked(kits):
        commit(kits, {**CHANGES, "hub/tls/ca.crt": b"t"})
    hub = [path for path in order if path.startswith("hub/")]
    assert hub == ["hub/policy.cbor", "hub/tls/ca.crt", "hub/manifest.cbor"]


def test_a_full_disk_is_told_and_leaves_the_old_state(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(provision_commit.os, "fsync", full)
        with locked(kits), pytest.raises(StorageError, match="No space left on device"):
            commit(kits, CHANGES)
    assert found(kits) == OLD


def test_one_at_a_time(kits: Path) -> None:
    inside, entered = [0], []

    def work() -> None:
        for _ in range(20):
            with locked(kits):
                inside[0] += 1
                entered.append(inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == [1] * 80


def test_a_process_that_was_killed_holds_no_lock(kits: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from qfl.federation.provision_commit import locked\n"
        "with locked(Path(sys.argv[1])):\n print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(kits)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        process.kill()
    with locked(kits):
        commit(kits, CHANGES)
    assert found(kits) == NEW


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot use"), locked(tmp_path / "nothing"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is there already"):
        create(tmp_path / "link", OLD)
    create(tmp_path / "new" / "deep", OLD)
    assert contents(tmp_path / "new" / "deep") == OLD
