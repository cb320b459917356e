"""Which models can be trained privately: refusals by name, and a trial that shows what is wrong."""

from __future__ import annotations

from torch import nn

from qfl.errors import PrivacyError
from qfl.privacy.samplers import records_itself, refuses

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def check_layers(model: nn.Module, gradients: str) -> None:
    """Refuse a model of which some layer cannot be trained privately.

    Args:
        model: To be trained.
        gradients: ``fused`` or ``opacus``.

    Raises:
        PrivacyError: Names the first such layer and says what to use instead.

    Example:
        >>> check_layers(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "fused")
        Traceback (most recent call last):
        ...
        qfl.errors.PrivacyError: layer '1' (BatchNorm1d) cannot be trained privately: it mixes the \
records of a batch, so that none has a gradient of its own; use nn.GroupNorm or nn.LayerNorm
    """
    seen: dict[nn.Parameter, str] = {}
    for name, module in model.named_modules():
        reason = _mixes(module)
        own = [one for one in module.parameters(recurse=False) if one.requires_grad]
        if reason is None and own:
            reason = _untold(module, gradients)
        if reason is not None:
            raise PrivacyError(
                f"layer '{name}' ({type(module).__name__}) cannot be trained privately: {reason}"
            )
        for parameter in own:
            if parameter in seen:
                raise PrivacyError(
                    f"layers '{seen[parameter]}' and '{name}' share a parameter: a model cannot be "
                    "trained privately with tied parameters; give each layer its own"
                )
            seen[parameter] = name
    if not seen:
        raise PrivacyError("this model has no trainable parameters")


def _mixes(module: nn.Module) -> str | None:
    if isinstance(module, _BATCH_NORM):
        return (
            "it mixes the records of a batch, so that none has a gradient of its own; use "
            "nn.GroupNorm or nn.LayerNorm"
        )
    if getattr(module, "track_running_stats", False):
        return "it keeps means of the records, without noise; set track_running_stats=False"
    return None


def _untold(module: nn.Module, gradients: str) -> str | None:
    if type(module).__module__.startswith("pennylane"):
        return (
            "its gradients would silently be zero under Opacus, because its forward pass does not "
            "read its registered parameters; use qfl.quantum.QuantumLayer on the same QNode"
        )
    reason = refuses(module)
    if gradients == "opacus" and not isinstance(module, nn.LSTM):
        return None if _known_to_opacus(module) else _raw("Opacus has no rule for it")
    if reason is None:
        return None
    if _known_to_opacus(module):
        return f"it {reason}; set privacy.gradients=opacus, which has one"
    return _raw(f"it {reason}")


def _raw(reason: str) -> str:
    return (
        f"{reason}; build it from layers that have one (nn.Linear, nn.Conv2d, nn.LSTM, "
        "nn.LayerNorm, nn.GroupNorm, qfl.quantum.QuantumLayer), or let it tell its gradients "
        "itself (qfl.privacy.taps)"
    )


def _known_to_opacus(module: nn.Module) -> bool:
    from opacus.grad_sample import GradSampleModule

    return records_itself(module) or type(module) in GradSampleModule.GRAD_SAMPLERS
