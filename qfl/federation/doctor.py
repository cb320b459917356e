"""``qfl doctor``: what is here and works, and the command that gets what is missing."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked for.
        state: ``works``, ``missing`` (a part cannot be used) or ``note`` (could be better).
        detail: Version, device, or what is wrong.
        remedy: The command or step that mends it.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; each check uses what it checks."""
    found: list[Finding] = [Finding("Python", "works", platform.python_version())]
    for check in (
        _flower,
        _torch,
        _pennylane,
        _kernel,
        _plugins,
        _tenseal,
        _opacus,
        _hydra,
        _cryptography,
        _liboqs,
        _ray,
        _parquet,
    ):
        found.extend(_guarded(check))
    return found


def print_report(*, brief: bool = False) -> None:
    """Print what was found; ``brief`` leaves out what simply works."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    found = examine()
    shown = [entry for entry in found if not brief or entry.state != "works"]
    if brief:
        console.print(
            "What could be better here:" if shown else "Nothing is missing here.", markup=False
        )
    marks = {
        "works": "[green]works  [/]",
        "missing": "[red]missing[/]",
        "note": "[yellow]note   [/]",
    }
    width = max(len(entry.name) for entry in found)
    for entry in shown:
        line = escape(f"{entry.name:<{width}}  {entry.detail}")
        console.print(f"{marks[entry.state]} {line}", soft_wrap=True)
        if entry.remedy:
            console.print(f"{'':{width + 10}}-> {entry.remedy}", markup=False, soft_wrap=True)


_PACKAGES = {"flower": "flwr", "hydra": "hydra-core"}


def _guarded(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except ImportError as error:
        name = check.__name__.strip("_")
        package = _PACKAGES.get(name, name)
        return [Finding(name, "missing", str(error), f"{_pip()} install {package}")]
    except Exception as error:
        name = check.__name__.strip("_")
        return [Finding(name, "missing", f"does not work: {type(error).__name__}: {error}")]


def _flower() -> list[Finding]:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    import_module("flwr.serverapp")
    return [Finding("Flower", "works", version("flwr"))]


def _torch() -> list[Finding]:
    import torch

    assert float(torch.ones(2).sum()) == 2.0
    found = [Finding("PyTorch", "works", f"{torch.__version__}, {os.cpu_count()} cores")]
    if torch.cuda.is_available():
        found.append(Finding("CUDA", "works", torch.cuda.get_device_name(0)))
    return found


def _pennylane() -> list[Finding]:
    import pennylane as qml

    found = [Finding("PennyLane", "works", version("pennylane"))]
    for name in ("default.qubit", "lightning.qubit"):
        device = qml.device(name, wires=1)

        def circuit() -> object:
            qml.PauliX(0)
            return qml.expval(qml.PauliZ(0))

        value = float(qml.QNode(circuit, device)())
        state = "works" if abs(value + 1) < 1e-6 else "missing"
        found.append(Finding(f"device {name}", state, f"<Z> of |1> is {value:g}"))
    others = sorted(
        {entry.name for entry in entry_points(group="pennylane.plugins")}
        - {entry.name for entry in found}
    )
    found.append(Finding("other devices", "works", f"{len(others)} registered"))
    return found


def _plugins() -> list[Finding]:
    found = []
    for devices, package, extra in (
        ("qiskit.aer, qiskit.remote", "pennylane-qiskit", "qiskit"),
        ("cirq.simulator", "pennylane-cirq", "cirq"),
    ):
        try:
            found.append(Finding(f"devices {devices}", "works", version(package)))
        except PackageNotFoundError:
            remedy = f"{_pip()} install 'qfl[{extra}]'"
            found.append(Finding(f"devices {devices}", "note", "not installed", remedy))
    return found


def _kernel() -> list[Finding]:
    from qfl.quantum.kernel_engine import KernelEngine

    reason = KernelEngine.available()
    if reason is None:
        detail = f"compiled, uses {KernelEngine.instructions()}; circuits run on it"
        return [Finding("quantum kernel", "works", detail)]
    return [
        Finding(
            "quantum kernel",
            "note",
            f"{reason}; circuits run on the torch engine, several times slower",
            f"install a C++ compiler ({_compiler()}), then {_reinstall()}",
        )
    ]


def _compiler() -> str:
    return {
        "Darwin": "xcode-select --install",
        "Windows": "Visual Studio's build tools with C++ and its clang, or LLVM beside them",
    }.get(platform.system(), "Debian: apt install g++")


def _reinstall() -> str:
    """The command that builds qfl again: from its cache pip would take what has no kernel."""
    told = json.loads(distribution("qfl").read_text("direct_url.json") or "{}")
    source = told.get("url", "qfl")
    if told.get("dir_info", {}).get("editable"):
        return f"{_pip()} install -e {source}"
    return f"{_pip()} install --force-reinstall --no-deps --no-cache-dir {source}"


def _tenseal() -> list[Finding]:
    import numpy as np

    from qfl.crypto import SumRange, make_scheme

    scheme = make_scheme("ckks", 2, SumRange(20, 2.0, 2))
    keys = scheme.generate_keys()
    total = scheme.accumulator(2, keys.public)
    for vector in ([1, 2], [3, -5]):
        total.add(scheme.protect(np.array(vector), keys.public))
    exact = scheme.open(total.result(), 2, keys.secret).tolist() == [4, -3]
    state = "works" if exact else "missing"
    return [Finding("TenSEAL", state, f"{version('tenseal')}, encrypted sum is exact: {exact}")]


def _opacus() -> list[Finding]:
    return [Finding("Opacus", "works", f"{version('opacus')} (used by differential privacy)")]


def _hydra() -> list[Finding]:
    plugins = []
    for name in ("hydra-joblib-launcher", "hydra-optuna-sweeper", "hydra-ray-launcher"):
        try:
            plugins.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    detail = (
        f"{version('hydra-core')}, plugins: {', '.join(plugins) or 'basic launcher and sweeper'}"
    )
    return [Finding("Hydra", "works", detail)]


def _cryptography() -> list[Finding]:
    from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

    key = mldsa.MLDSA65PrivateKey.generate()
    key.public_key().verify(key.sign(b"qfl"), b"qfl")
    mlkem.MLKEM768PrivateKey.generate()
    detail = f"{version('cryptography')}: ML-KEM-768, ML-DSA-65"
    return [Finding("provider cryptography", "works", detail)]


def _liboqs() -> list[Finding]:
    from qfl.crypto import liboqs
    from qfl.crypto.signatures import generate_signing_key, verify

    reason = liboqs.problem()
    if reason is not None:
        detail = f"{reason}; provider cryptography serves ML-KEM and ML-DSA"
        return [Finding("provider oqs", "note", detail, liboqs.remedy())]
    key = generate_signing_key("ML-DSA-65", "oqs")
    verify("ML-DSA-65", key.public, b"qfl", key.sign(b"qfl"), provider="oqs")
    library = liboqs.find()
    assert library is not None
    detail = (
        f"liboqs {library.version} ({library.path}), liboqs-python {liboqs.package_version()}: "
        "preferred to provider cryptography"
    )
    return [Finding("provider oqs", "works", detail)]


def _ray() -> list[Finding]:
    try:
        return [Finding("Ray", "works", version("ray"))]
    except PackageNotFoundError:
        return [
            Finding(
                "Ray",
                "note",
                "simulation.backend=ray is not available",
                f"{_pip()} install 'qfl[ray]'",
            )
        ]


def _parquet() -> list[Finding]:
    try:
        return [Finding("pyarrow", "works", version("pyarrow"))]
    except PackageNotFoundError:
        return [
            Finding(
                "pyarrow",
                "note",
                "dataset=parquet is not available",
                f"{_pip()} install 'qfl[parquet]'",
            )
        ]


def _pip() -> str:
    return f"{Path(sys.executable).parent / 'pip'}"
