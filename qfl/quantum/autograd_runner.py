"""Tapes under PennyLane's autograd: results and gradients as operations that autograd knows.

PennyLane's own boundary hands a device numbers without their history, so that second derivatives
come out as zero. Here gradients are operations themselves, and their derivatives come from the
torch engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from autograd.builtins import tuple as boxed_tuple  # type: ignore[import-untyped]
from autograd.extend import defvjp, primitive  # type: ignore[import-untyped]
from autograd.tracer import isbox  # type: ignore[import-untyped]

from qfl.errors import ConfigError
from qfl.quantum.runner import Runner


def run_boxed(runner: Runner, parameters: list[Any]) -> tuple[Any, ...]:
    """Results of a tape, differentiable twice by autograd.

    Args:
        runner: Of the tape.
        parameters: Of its operations, one after the other; boxed where they are differentiated.

    Returns:
        One for each measurement.
    """
    from pennylane import numpy as pnp

    angles = [parameters[number] for number in runner.angles]
    values = [angle if isbox(angle) else np.asarray(angle) + 0.0 for angle in angles]
    found = _results(boxed_tuple(values), runner, parameters)
    entries = (found[number] for number in range(len(found)))
    return tuple(entry if isbox(entry) else pnp.tensor(entry) for entry in entries)


@primitive  # type: ignore[untyped-decorator]
def _results(angles: tuple[Any, ...], runner: Runner, fixed: list[Any]) -> tuple[Any, ...]:
    return tuple(result.numpy() for result in runner(runner.filled(fixed, angles)))


@primitive  # type: ignore[untyped-decorator]
def _pulled(
    cotangents: tuple[Any, ...], angles: tuple[Any, ...], runner: Runner, fixed: list[Any]
) -> tuple[Any, ...]:
    return runner.vjp(runner.filled(fixed, angles), runner.angles, cotangents)


def _second(place: int) -> Any:
    def rule(ans: Any, cotangents: Any, angles: Any, runner: Runner, fixed: list[Any]) -> Any:
        def pull(upstream: tuple[Any, ...]) -> tuple[Any, ...]:
            if any(map(isbox, [upstream, cotangents, angles])):
                raise ConfigError(
                    "autograd has two derivatives of a circuit: use torch with max_diff=2 for more"
                )
            filled = runner.filled(fixed, angles)
            return runner.vjp_twice(filled, runner.angles, cotangents, upstream)[place]

        return pull

    return rule


defvjp(
    _results,
    lambda ans, angles, runner, fixed: lambda given: _pulled(given, angles, runner, fixed),
    argnums=[0],
)
defvjp(_pulled, _second(0), _second(1), argnums=[0, 1])
