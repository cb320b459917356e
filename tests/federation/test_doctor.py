"""What the doctor finds, and what it says where something is missing."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from qfl.crypto import liboqs
from qfl.federation import doctor
from qfl.federation.doctor import Finding, examine, print_report


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    def fake(name: str) -> str:
        if name in missing:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", fake)


def found(name: str) -> Finding:
    (entry,) = (entry for entry in examine() if entry.name == name)
    return entry


def test_everything_needed_works_here() -> None:
    entries = {entry.name: entry for entry in examine()}
    for name in ("Python", "Flower", "PyTorch", "PennyLane", "device default.qubit",
                 "device lightning.qubit", "TenSEAL", "Opacus", "Hydra",
                 "provider cryptography"):  # fmt: skip
        assert entries[name].state == "works", name
    assert entries["TenSEAL"].detail.endswith("encrypted sum is exact: True")
    assert entries["device default.qubit"].detail == "<Z> of |1> is -1"
    assert entries.keys() >= {"Ray", "pyarrow", "provider oqs", "other devices"}


def test_without_liboqs_the_doctor_says_what_to_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
    monkeypatch.setattr(liboqs.ctypes.util, "find_library", lambda name: None)
    entry = found("provider oqs")
    assert (entry.state, entry.detail) == (
        "note",
        "liboqs is not installed; provider cryptography serves ML-KEM and ML-DSA",
    )
    release = ".".join(version("liboqs-python").split(".")[:2])
    assert entry.remedy == (
        f"build liboqs {release} as a shared library and set OQS_INSTALL_PATH to its prefix"
    )


@pytest.mark.skipif(liboqs.problem() is not None, reason=str(liboqs.problem()))
def test_with_liboqs_the_doctor_says_which() -> None:
    entry = found("provider oqs")
    assert (entry.state, entry.remedy) == ("works", "")
    library = liboqs.find()
    assert library is not None
    assert f"liboqs {library.version} ({library.path})" in entry.detail
    assert f"liboqs-python {version('liboqs-python')}" in entry.detail


@pytest.mark.parametrize(
    ("package", "name", "loses", "remedy"),
    [
        ("ray", "Ray", "simulation.backend=ray is not available", "install 'qfl[ray]'"),
        ("pyarrow", "pyarrow", "dataset=parquet is not available", "install 'qfl[parquet]'"),
    ],
)
def test_an_optional_package_that_is_missing_comes_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    name: str,
    loses: str,
    remedy: str,
) -> None:
    without(monkeypatch, package)
    print_report(brief=True)
    lines = capsys.readouterr().out.splitlines()
    (line,) = (n for n, text in enumerate(lines) if text.split()[1:2] == [name])
    assert lines[line].startswith("note")
    assert loses in lines[line]
    assert lines[line + 1].strip().endswith(remedy)
    assert lines[line + 1].strip().startswith(f"-> {Path(sys.executable).parent / 'pip'}")


@pytest.mark.parametrize(
    ("module", "check", "package"),
    [("flwr.serverapp", "_flower", "flwr"), ("pennylane", "_pennylane", "pennylane")],
)
def test_a_needed_package_that_is_missing_is_named_as_pip_knows_it(
    monkeypatch: pytest.MonkeyPatch, module: str, check: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (entry,) = doctor._guarded(getattr(doctor, check))
    assert entry.state == "missing"
    assert entry.remedy.endswith(f"pip install {package}")


def test_hydras_package_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "hydra-core")
    (entry,) = doctor._guarded(doctor._hydra)
    assert (entry.state, entry.remedy.split()[-1]) == ("missing", "hydra-core")


def test_a_package_that_breaks_is_told_as_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("bad [build]")

    monkeypatch.setattr("qfl.crypto.make_scheme", broken)
    print_report(brief=True)
    output = capsys.readouterr().out
    assert "missing tenseal" in output
    assert "does not work: RuntimeError: bad [build]" in output


def test_brief_leaves_out_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    print_report()
    whole = capsys.readouterr().out.splitlines()
    print_report(brief=True)
    brief = capsys.readouterr().out.splitlines()
    assert brief[0] in ("What could be better here:", "Nothing is missing here.")
    assert not [line for line in brief if line.startswith("works")]
    assert set(brief[1:]) < set(whole)


def test_nothing_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("Python", "works", "3")])
    print_report(brief=True)
    assert capsys.readouterr().out == "Nothing is missing here.\n"
