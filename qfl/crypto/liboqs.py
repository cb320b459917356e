"""Finding liboqs, so that its Python package is imported only where that is safe.

liboqs-python, imported where it finds no shared library, fetches liboqs with git, builds it and
ends the process if that fails. Its classes also mirror the structures of one version of liboqs and
would read those of another wrongly. So the library is looked for first, in the same places and the
same order, and its version compared.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from qfl.errors import MissingDependencyError


@dataclass(frozen=True)
class Library:
    """The shared library that liboqs-python would load.

    Attributes:
        path: As given to the loader.
        version: Its own word, such as ``0.16.0``.
    """

    path: str
    version: str


def load() -> ModuleType:
    """The module ``oqs``.

    Raises:
        MissingDependencyError: The package or the library is missing, or they do not go together.
    """
    reason = problem()
    if reason is None:
        module = _imported()
        if isinstance(module, ModuleType):
            return module
        reason = module
    raise MissingDependencyError(f"{reason}; {remedy()}")


def problem() -> str | None:
    """Why liboqs cannot be used, or None. Loads the library and imports nothing."""
    package = package_version()
    if package is None:
        return "liboqs-python is not installed"
    library = find()
    if library is None:
        return "liboqs is not installed"
    if library.version.split(".")[:2] != package.split(".")[:2]:
        return (
            f"liboqs {library.version} at {library.path} does not go with liboqs-python {package}, "
            "which knows the structures of its own version only"
        )
    return None


def remedy() -> str:
    """What to install."""
    package = package_version()
    if package is None:
        return "pip install liboqs-python"
    release = ".".join(package.split(".")[:2])
    return f"build liboqs {release} as a shared library and set OQS_INSTALL_PATH to its prefix"


@cache
def package_version() -> str | None:
    """Version of liboqs-python, if it is installed."""
    try:
        return version("liboqs-python")
    except PackageNotFoundError:
        return None


def find() -> Library | None:
    """The first library that loads, where liboqs-python looks for it."""
    return _find(os.environ.get("OQS_INSTALL_PATH"))


@cache
def _find(prefix: str | None) -> Library | None:
    for path in _places(Path(prefix) if prefix is not None else Path.home() / "_oqs"):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        try:
            library.OQS_version.restype = ctypes.c_char_p
            return Library(path, library.OQS_version().decode())
        except AttributeError:
            return Library(path, "of unknown version")
    return None


def _places(prefix: Path) -> Iterator[str]:
    # The system's own come first, the second name before the first: so does liboqs-python.
    for name in ("liboqs", "oqs"):
        found = ctypes.util.find_library(name)
        if found:
            yield found
    folders, files = {
        "Windows": (("bin",), ("oqs.dll", "liboqs.dll")),
        "Darwin": (("lib", "lib64"), ("liboqs.dylib",)),
    }.get(platform.system(), (("lib", "lib64"), ("liboqs.so",)))
    for folder in folders:
        for file in files:
            yield str((prefix / folder).absolute() / file)


@cache
def _imported() -> ModuleType | str:
    # At import it prints to standard output, which belongs to qfl's own results.
    logging.getLogger("oqs.oqs").disabled = True
    try:
        return import_module("oqs")
    except (Exception, SystemExit) as error:
        return f"liboqs-python cannot be imported ({type(error).__name__}: {error})"
