"""A node as member of a committee: it agrees on sums, adds shares, and may keep the model."""

from __future__ import annotations

import json
import secrets
import struct

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl.clients import fitting, keeping, noising
from qfl.clients.keys import box_info, member_keys, public_key, roster_of
from qfl.clients.vouched import contributors
from qfl.crypto import Committee, CommitteeMember, Step, box_for, unpack
from qfl.crypto.agreement import Request
from qfl.crypto.members import NAME_BYTES
from qfl.errors import MisfitError, OpeningRefusedError, PayloadError
from qfl.records import BOX, MASKED, MODEL, PAYLOAD, bytes_record, record_bytes

_SIGNED = "qfl-committee"
_GIVEN = "qfl-model-box"


def give_model_key(step: Step, message: Message, context: Context) -> Message:
    """As the keeper, seal the key of the model to all members of the run."""
    _check_keeper(step, context)
    held = context.state.config_records.get(_GIVEN)
    if held is not None and held["run"] == step.run:
        box = held["box"]
        assert isinstance(box, bytes)
    else:
        content = secrets.token_bytes(keeping.KEY_BYTES)
        keeping.keep_key(content, context)
        box = box_for(roster_of(step, context), content, box_info(step.run, step.key_id))
        context.state[_GIVEN] = ConfigRecord({"run": step.run, "box": box})
    return Message(RecordDict({BOX: bytes_record(box, "box")}), reply_to=message)


def agree(step: Step, message: Message, context: Context) -> Message:
    """Sign whose contributions are opened."""
    member = _member(step, context)
    signature = member.agree(record_bytes(message.content, PAYLOAD))
    _remember(member, step, context)
    return Message(RecordDict({PAYLOAD: bytes_record(signature, "signature")}), reply_to=message)


def share(step: Step, message: Message, context: Context) -> Message:
    """Add the shares agreed on; sealed to the keeper where the server may not learn the sum."""
    member, asked = _member(step, context), record_bytes(message.content, PAYLOAD)
    place = Request.from_bytes(asked, len(_committee(step, context).names)).statement.place
    if place != step.place:
        raise PayloadError(f"shares for {place} were asked for in the step for {step.place}")
    found = member.share(asked)
    _remember(member, step, context)
    if _for_keeper(step):
        keeper = _committee(step, context).roster.member(_keeper(step, context))
        found = keeper.seal(found, _share_info(step))
    return Message(RecordDict({PAYLOAD: bytes_record(found, "share")}), reply_to=message)


def combine(step: Step, message: Message, context: Context) -> Message:
    """As the keeper, rebuild the summed key and unmask the sum; add noise, or keep the model.

    Raises:
        OpeningRefusedError: This member does not keep the model.
        PayloadError: A share is malformed, or there are too few.
    """
    _check_keeper(step, context)
    header, body = unpack(record_bytes(message.content, PAYLOAD))
    if header.place != step.place:
        raise PayloadError(f"shares for {header.place} were sent for {step.place}")
    keys = member_keys(step, context)
    shares = {name: keys.open(sealed, _share_info(step)) for name, sealed in _split(body)}
    opened = _committee(step, context).combine(shares)
    masked = record_bytes(message.content, MASKED)
    content = RecordDict()
    noising.check_asked(step, step, header, context)
    fitting.check_not_told(header, context)
    try:
        if step.release == "clients":
            values, model = keeping.next_model(step, opened, masked, header, context)
            content[MODEL] = bytes_record(model, "model")
        else:
            values = noising.finished(step, opened, masked, header, context)
    except MisfitError as error:
        return fitting.told(error, header, message, context)
    content[PAYLOAD] = ArrayRecord({"data": Array(values)})
    return Message(content, reply_to=message)


def _split(body: bytes) -> list[tuple[str, bytes]]:
    found, at = [], 0
    while at < len(body):
        head = body[at : at + NAME_BYTES + 4]
        if len(head) < NAME_BYTES + 4:
            raise PayloadError(f"shares of {len(body)} bytes end within a head")
        (size,) = struct.unpack("<I", head[NAME_BYTES:])
        at += len(head)
        if at + size > len(body):
            raise PayloadError(f"shares of {len(body)} bytes claim one of {size} bytes")
        found.append((head[:NAME_BYTES].hex(), body[at : at + size]))
        at += size
    return found


def _committee(step: Step, context: Context) -> Committee:
    return Committee.from_bytes(public_key(step, context))


def _keeper(step: Step, context: Context) -> str:
    """The committee's first member in the order of names: nobody chooses it."""
    return _committee(step, context).roster.names[0]


def _check_keeper(step: Step, context: Context) -> None:
    own, keeper = member_keys(step, context).name, _keeper(step, context)
    if not (step.release == "clients" or noising.adds_noise(step)) or own != keeper:
        raise OpeningRefusedError(
            f"asked to keep the model with release={step.release}; member {keeper} does, under "
            f"release=clients or central differential privacy, and this is {own}"
        )


def _for_keeper(step: Step) -> bool:
    """Whether one member alone may learn the sum."""
    return noising.adds_noise(step) or (step.release == "clients" and step.label == "train")


def _share_info(step: Step) -> bytes:
    return f"qfl share {step.place}".encode()


def _member(step: Step, context: Context) -> CommitteeMember:
    held = context.state.config_records.get(_SIGNED)
    signed = json.loads(str(held["signed"])) if held and held["run"] == step.run else {}
    roster = contributors(roster_of(step, context), context)
    keys = member_keys(step, context)
    return CommitteeMember(keys, _committee(step, context), roster, step.min_clients, signed)


def _remember(member: CommitteeMember, step: Step, context: Context) -> None:
    context.state[_SIGNED] = ConfigRecord({"run": step.run, "signed": member.signed_json()})
