"""liboqs-python is imported only beside a library that it can use."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from qfl.crypto import liboqs
from qfl.errors import MissingDependencyError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(liboqs.ctypes.util, "find_library", lambda name: None)
    caches = (liboqs.package_version, liboqs._find, liboqs._imported)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


class Fake:
    """A library as ctypes shows it, of one version."""

    def __init__(self, told: bytes) -> None:
        def version() -> bytes:
            return told

        self.OQS_version = version


def place(monkeypatch: pytest.MonkeyPatch, library: object, at: str) -> None:
    def load(path: str) -> object:
        if path != at:
            raise OSError(path)
        return library

    monkeypatch.setattr(liboqs.ctypes, "CDLL", load)


def test_what_does_not_load_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
    (tmp_path / "lib").mkdir()
    for name in ("liboqs.so", "liboqs.dylib"):
        (tmp_path / "lib" / name).write_bytes(b"no library")
    assert liboqs.find() is None
    with pytest.raises(MissingDependencyError, match=r"^liboqs is not installed; build liboqs "):
        liboqs.load()


@pytest.mark.parametrize(
    ("system", "folder", "file"),
    [
        ("Linux", "lib", "liboqs.so"),
        ("Linux", "lib64", "liboqs.so"),
        ("Darwin", "lib", "liboqs.dylib"),
        ("Windows", "bin", "oqs.dll"),
        ("Windows", "bin", "liboqs.dll"),
    ],
)
@pytest.mark.parametrize("home", [True, False])
def test_it_is_found_where_liboqs_python_looks(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    folder: str,
    file: str,
    home: bool,
) -> None:
    monkeypatch.setattr(liboqs.platform, "system", lambda: system)
    if home:
        monkeypatch.delenv("OQS_INSTALL_PATH", raising=False)
        monkeypatch.setattr(liboqs.Path, "home", lambda: tmp_path)
        expected = tmp_path / "_oqs" / folder / file
    else:
        monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
        expected = tmp_path / folder / file
    place(monkeypatch, Fake(b"0.16.0"), str(expected))
    assert liboqs.find() == liboqs.Library(str(expected), "0.16.0")


def test_the_systems_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        liboqs.ctypes.util, "find_library", {"oqs": "liboqs.so.9", "liboqs": None}.get
    )
    place(monkeypatch, Fake(b"0.16.0"), "liboqs.so.9")
    assert liboqs.find() == liboqs.Library("liboqs.so.9", "0.16.0")


@pytest.mark.parametrize(
    ("library", "told"), [(Fake(b"0.15.0"), "0.15.0"), (object(), "of unknown version")]
)
def test_another_version_is_refused_and_both_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: object, told: str
) -> None:
    at = tmp_path / "lib" / "liboqs.so"
    monkeypatch.setattr(liboqs.platform, "system", lambda: "Linux")
    monkeypatch.setenv("OQS_INSTALL_PATH", str(tmp_path))
    monkeypatch.setattr(liboqs, "version", lambda name: "0.16.0.1")
    place(monkeypatch, library, str(at))
    with pytest.raises(MissingDependencyError) as raised:
        liboqs.load()
    assert str(raised.value) == (
        f"liboqs {told} at {at} does not go with liboqs-python 0.16.0.1, which knows the "
        "structures of its own version only; build liboqs 0.16 as a shared library and set "
        "OQS_INSTALL_PATH to its prefix"
    )


def test_the_package_itself_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(liboqs, "version", missing)
    with pytest.raises(
        MissingDependencyError,
        match=r"^liboqs-python is not installed; pip install liboqs-python$",
    ):
        liboqs.load()


def test_an_import_that_ends_the_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(name: str) -> None:
        raise SystemExit("Could not load liboqs shared library")

    monkeypatch.setattr(liboqs, "problem", lambda: None)
    monkeypatch.setattr(liboqs, "import_module", ends)
    with pytest.raises(MissingDependencyError, match=r"imported \(SystemExit: Could not load"):
        liboqs.load()


def test_using_qfl_without_liboqs_imports_and_fetches_nothing(tmp_path: Path) -> None:
    """In a process of its own, where git and cmake would leave a trace."""
    for tool in ("git", "cmake"):
        (tmp_path / tool).write_text(f"#!/bin/sh\ntouch {tmp_path}/used\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    code = (
        "import ctypes.util, sys\n"
        "ctypes.util.find_library = lambda name: None\n"
        "from qfl.crypto.signatures import generate_signing_key\n"
        "from qfl.federation.doctor import _liboqs\n"
        "print(generate_signing_key().provider, _liboqs()[0].state, 'oqs' in sys.modules)\n"
    )
    environment = {**os.environ, "PATH": str(tmp_path), "OQS_INSTALL_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "cryptography note False\n"
    assert not (tmp_path / "used").exists()


@pytest.mark.usefixtures("oqs")
def test_the_import_prints_nothing() -> None:
    code = "from qfl.crypto import liboqs; print(liboqs.load().__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("oqs\n", "")
