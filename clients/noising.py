"""Central differential privacy at whoever opens a sum: noise first, and then others see it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from flwr.app import ConfigRecord, Context

from qfl.crypto import Header, IntVector, Step, make_scheme
from qfl.errors import MisfitError, OpeningRefusedError
from qfl.privacy import ClientLevel, Stream, Terms

_RELEASED = "qfl-released"


def adds_noise(step: Step) -> bool:
    """Whether whoever opens the sums of this run adds their noise."""
    return bool(step.privacy) and Terms.from_json(step.privacy).mechanism == "central"


def check_asked(
    asked: Step, step: Step, header: Header, context: Context, *, vouched: bool = False
) -> None:
    """Refuse a sum that clients gave on other terms; where noise is added, any but of updates.

    Under ``hybrid`` clients signed the terms that ``header`` names; with identities they do under
    every scheme. Otherwise it is the server who says so, and is trusted to.

    Args:
        asked: What the server asks for now.
        step: What the keys were made for.
        header: Of the sum.
        context: This node's.
        vouched: Whether contributors signed the header's terms.

    Raises:
        OpeningRefusedError: Names what differs.
    """
    noises, released = adds_noise(step), _released(step, context)
    if noises and header.step != "train":
        raise OpeningRefusedError(
            f"asked to open a sum of '{header.step}' in a run with noise for updates only: it "
            "would be released without noise"
        )
    if noises and released is not None and header.round <= int(str(released["round"])):
        return  # answered as before, or refused, by :func:`finished`
    signed = vouched or noises or step.scheme == "hybrid"
    if (
        adds_noise(asked) != noises
        or (signed and asked.weights != header.terms)
        or (noises and asked.privacy != _terms(step, context).to_json())
    ):
        raise OpeningRefusedError(
            f"asked to open a sum of round {header.round} on other terms than those of the run: "
            "its noise would not fit"
        )
    if noises and header.length != step.longest:
        raise OpeningRefusedError(
            f"asked to open a sum of {header.length} values, where noise is for updates of "
            f"{step.longest}: what stands behind an update is released without"
        )


def finished(
    step: Step, opened: IntVector, masked: bytes, header: Header, context: Context
) -> IntVector:
    """The sum, with its noise where this node adds it.

    Noise is drawn once: asked again for the same sum, the answer is the same, or the difference of
    two answers would tell of the noise.

    Args:
        step: What the keys were made for, or the clients agreed to.
        opened: What was opened here.
        masked: The rest of the sum, as the server sent it.
        header: Where it belongs.
        context: This node's.

    Raises:
        OpeningRefusedError: Another sum was released for this round, or a later one, or sums are
            too narrow.
        MisfitError: What was opened and the rest do not make a sum of updates.
    """
    noises = adds_noise(step)
    # Before anything is worked out: whether another masked sum fits the key would tell of the key.
    digest = digest_of(opened, masked)
    released = _released(step, context) if noises else None
    if released is not None and header.round <= int(str(released["round"])):
        if (released["place"], released["digest"]) != (header.place, digest):
            raise OpeningRefusedError(
                f"a sum with noise was released for round {released['round']!s}: nothing else is "
                f"released for round {header.round}"
            )
        kept = released["values"]
        assert isinstance(kept, bytes)
        return np.frombuffer(kept, dtype="<i8").astype(np.int64)
    scheme = make_scheme(step.scheme, step.longest, step.sums, step.trust)
    if not noises:
        return scheme.finish(opened, masked, header.length, place=header.place)
    terms = _terms(step, context)
    with_count = bool(terms.count_noise)
    level = level_of(terms, step, header.length - 1 - with_count, header.place)
    if step.bound < level.room(shifted=step.scheme == "hybrid"):
        raise OpeningRefusedError(
            f"asked to open sums of up to {step.bound:g}, too narrow for updates of norm "
            f"{terms.clipping_norm:g}: where they wrap would tell of them without noise"
        )
    summed = scheme.finish(opened, masked, header.length, place=header.place)
    if int(np.abs(summed[: level.width]).max()) > level.bound * 2.0**step.fraction_bits:
        raise MisfitError("the sum lies beyond what updates come to: it is not theirs alone")
    noised = level.noised(summed[: level.width], Stream())
    values = np.concatenate([noised, summed[level.width :]])
    _, count = level.decode(noised, header.contributions)
    if count is not None:
        terms = terms.after(count / header.contributions)
    context.state[_RELEASED] = ConfigRecord(
        {
            "run": step.run,
            "round": header.round,
            "place": header.place,
            "digest": digest,
            "values": values.astype("<i8").tobytes(),
            "norm": terms.clipping_norm,
        }
    )
    return values


def level_at(step: Step, length: int, header: Header) -> ClientLevel | None:
    """How the update of a sum is encoded; None where it is as it was."""
    if not step.privacy or (terms := Terms.from_json(step.privacy)).protects != "client":
        return None
    return level_of(terms, step, length, header.place)


def level_of(terms: Terms, step: Step, length: int, place: str) -> ClientLevel:
    """What terms mean for an update of ``length`` parameters at a place."""
    return terms.level(
        length=length,
        clients=step.clients,
        min_clients=step.min_clients,
        fraction_bits=step.fraction_bits,
        place=place,
    )


def digest_of(opened: IntVector, masked: bytes) -> bytes:
    """Names what was opened together with the rest of its sum."""
    return hashlib.sha256(masked + opened.astype("<i8").tobytes()).digest()


def _terms(step: Step, context: Context) -> Terms:
    """The run's, with the clipping norm that follows from what was released here."""
    terms, released = Terms.from_json(step.privacy), _released(step, context)
    if released is None:
        return terms
    return replace(terms, clipping_norm=float(str(released["norm"])))


def _released(step: Step, context: Context) -> ConfigRecord | None:
    held = context.state.config_records.get(_RELEASED)
    return held if held is not None and held["run"] == step.run else None
