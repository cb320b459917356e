"""What a node keeps of a run: its own keys, the roster, and the keys to protect with.

All of it lives in the node's ``Context.state``, which never leaves the node.
"""

from __future__ import annotations

import hashlib

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from numpy.typing import NDArray

from qfl.clients.vouched import KEPT, check_still, check_told
from qfl.crypto import MemberKeys, Roster, Step, open_box
from qfl.errors import PayloadError
from qfl.identity.credentials import Credentials
from qfl.records import (
    BOX,
    KEY,
    MEMBER,
    PEOPLE,
    PROTECTED,
    ROSTER,
    VOUCHED_KEYS,
    VOUCHED_MEMBERS,
    bytes_record,
    record_bytes,
)

_RUN = "qfl-run"
_CALLED = {
    KEY: "public key",
    ROSTER: "roster",
    BOX: "sealed key",
    PROTECTED: "choice of what is protected",
    VOUCHED_MEMBERS: "proof of who the members are",
    VOUCHED_KEYS: "proof of whose keys they are",
}
TOLD = tuple(_CALLED)


def member_keys(step: Step, context: Context) -> MemberKeys:
    """This node's keys of the run; made when it is first asked for them."""
    held = context.state.config_records.get(MEMBER)
    if held is None or held["run"] != step.run:
        keys = MemberKeys()
        context.state[MEMBER] = ConfigRecord({"run": step.run, "seed": keys.seed})
        return keys
    seed = held["seed"]
    assert isinstance(seed, bytes)
    return MemberKeys(seed)


def learn(
    step: Step, message: Message, context: Context, credentials: Credentials | None = None
) -> None:
    """Keep what everybody is told, and take it out of the message.

    Args:
        step: What is asked for.
        message: The message.
        context: This node's.
        credentials: This node's; unset, the server is believed who takes part.

    Raises:
        PayloadError: The roster is not the one that this node knows, or does not name it; or the
            server no longer asks for what it asked for when the run began.
        RefusedError: Keys or members of the run are not vouched for.
    """
    held = context.state.config_records.get(_RUN)
    if held is None or held["run"] != step.run:
        _begin(step, context)
    elif held["terms"] != step.terms:
        raise PayloadError(
            f"the server changed the terms of run {step.run}: they were {held['terms']!s} and are "
            f"now {step.terms}"
        )
    if credentials is None:
        message.content.pop(PEOPLE, None)
    else:
        check_told(step, message, context, credentials)
    for name in TOLD:
        if name not in message.content:
            continue
        told = record_bytes(message.content, name)
        if name in context.state and record_bytes(context.state, name) != told:
            raise PayloadError(
                f"the server sent another {_CALLED[name]} in run {step.run}: a run keeps the one "
                "that it started with"
            )
        if name == ROSTER:
            _check_roster(told, step, context)
        if name == PROTECTED:
            _check_choice(step, context)
        context.state[name] = bytes_record(told, "told")
        del message.content[name]
    if credentials is not None:
        check_still(step, context, credentials)
    if step.step == "train":
        context.state.config_records[_RUN]["trained"] = True


def _begin(step: Step, context: Context) -> None:
    """Take up a run, for good: a node that has gone on to another does not come back."""
    held = context.state.config_records.get(_RUN)
    left = [] if held is None else [*held["left"], held["run"]]  # type: ignore[misc]
    if step.run in left:
        raise PayloadError(
            f"run {step.run} ended for this node when another one began: it has forgotten what "
            "that run started with"
        )
    for name in (*TOLD, *KEPT):
        context.state.pop(name, None)
    context.state[_RUN] = ConfigRecord(
        {"run": step.run, "terms": step.terms, "left": left, "trained": False}
    )


def _check_choice(step: Step, context: Context) -> None:
    """A part in the clear is settled before the first training, or there is none."""
    if step.release == "clients" or (
        PROTECTED not in context.state and context.state.config_records[_RUN]["trained"]
    ):
        raise PayloadError(
            f"the server sent a choice of what is protected, in run {step.run} in which all is"
        )


def _check_roster(told: bytes, step: Step, context: Context) -> None:
    keys = member_keys(step, context)
    if Roster.from_bytes(told).member(keys.name) != keys.member:
        raise PayloadError(f"the roster names this node, {keys.name}, with other keys")


def roster_of(step: Step, context: Context) -> Roster:
    """Everybody's keys of the run.

    Raises:
        PayloadError: This node was never told.
    """
    if ROSTER not in context.state:
        raise PayloadError(f"the roster of run {step.run} never reached this node")
    return Roster.from_bytes(record_bytes(context.state, ROSTER))


def public_key(step: Step, context: Context) -> bytes:
    """The run's public key, or whatever describes its keys.

    Raises:
        PayloadError: It never came, or is not the one that the step names.
    """
    if not step.key_id:
        return b""
    if KEY not in context.state:
        raise PayloadError(f"the run's public key {step.key_id} never reached this client")
    key = record_bytes(context.state, KEY)
    if (found := hashlib.sha256(key).hexdigest()[:16]) != step.key_id:
        raise PayloadError(f"this client has public key {found}, the step names {step.key_id}")
    return key


def protected_mask(context: Context) -> NDArray[np.bool_] | None:
    """Which coordinates of an update are protected; None for all.

    Raises:
        PayloadError: What the server sent is no such choice.
    """
    if PROTECTED not in context.state:
        return None
    told = record_bytes(context.state, PROTECTED)
    size = int.from_bytes(told[:4], "little")
    bits = np.frombuffer(told, dtype=np.uint8, offset=min(4, len(told)))
    if bits.size != -(-size // 8):
        raise PayloadError(f"{bits.size} bytes do not say which of {size} parameters to protect")
    return np.unpackbits(bits, count=size).astype(bool)


def boxed_secret(step: Step, context: Context) -> bytes:
    """What the key holder sealed to all members: the shared key, or the model's.

    Raises:
        PayloadError: There is none, or it is not for this node.
    """
    if BOX not in context.state:
        raise PayloadError(f"the sealed key of run {step.run} never reached this client")
    box = record_bytes(context.state, BOX)
    return open_box(box, member_keys(step, context), box_info(step.run, step.key_id))


def box_info(run: str, key_id: str) -> bytes:
    """What a sealed key belongs to."""
    return f"qfl box {run} {key_id}".encode()


def protecting_key(step: Step, context: Context) -> bytes:
    """What a client protects with: the public key, or under trust ``shared`` the secret one."""
    public = public_key(step, context)
    return boxed_secret(step, context) if step.trust == "shared" else public


def announce(step: Step, context: Context) -> RecordDict:
    """This node's public keys of the run, where the scheme or the trust needs them."""
    if not (
        step.scheme in ("hybrid", "masking") or step.trust == "shared" or step.release == "clients"
    ):
        return RecordDict()
    member = member_keys(step, context).member
    return RecordDict({MEMBER: bytes_record(member.to_bytes(), "member")})
