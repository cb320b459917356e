"""A node as key holder: it makes the keys of a run, and opens sums.

Under central differential privacy it adds the noise before anybody else sees a sum.
"""

from __future__ import annotations

import json
import secrets

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from qfl.clients import fitting, keeping, noising, vouched
from qfl.clients.keys import box_info, roster_of
from qfl.clients.vouched import contributors
from qfl.crypto import KeyHolder, KeyPair, Step, box_for, make_scheme, unpack
from qfl.errors import MisfitError, OpeningRefusedError
from qfl.identity.credentials import Credentials
from qfl.identity.vouching import UNSEEN
from qfl.records import BOX, KEY, MASKED, MODEL, PAYLOAD, bytes_record, record_bytes

_HELD = "qfl-key-holder"


def generate(step: Step, message: Message, context: Context) -> Message:
    """Make the keys of a run once; asked again, answer with the same public key.

    Raises:
        OpeningRefusedError: Sums of a single update are asked for.
    """
    if step.min_clients < 2:
        raise OpeningRefusedError(
            f"asked to make keys for sums of at least {step.min_clients} updates; a sum of one "
            "update is that update: must be >= 2"
        )
    held = context.state.config_records.get(_HELD)
    if held is None or Step.from_json(str(held["step"])).run != step.run:
        scheme = make_scheme(step.scheme, step.longest, step.sums, step.trust)
        holder = KeyHolder.create(step.run, scheme, step.min_clients)
        held = ConfigRecord(
            {
                "step": step.to_json(),
                "public": holder.keys.public,
                "secret": holder.keys.secret,
                "key-id": holder.keys.key_id,
                "opened": holder.opened_json(),
                "box": _box(step, holder.keys, context),
            }
        )
        context.state[_HELD] = held
    public, box = held["public"], held["box"]
    assert isinstance(public, bytes) and isinstance(box, bytes)
    content = RecordDict({KEY: bytes_record(public, "key")})
    if box:
        content[BOX] = bytes_record(box, "box")
    return Message(content, reply_to=message)


def _box(step: Step, keys: KeyPair, context: Context) -> bytes:
    """What all members get, sealed: the secret key where it is shared, else the model's key."""
    if step.trust == "shared":
        content = keys.secret
    elif step.release == "clients":
        content = secrets.token_bytes(keeping.KEY_BYTES)
    else:
        return b""
    keeping.keep_key(content, context)
    return box_for(roster_of(step, context), content, box_info(step.run, keys.key_id))


def open_sum(
    asked: Step, message: Message, context: Context, credentials: Credentials | None = None
) -> Message:
    """Open a sum, if it may be opened.

    Args:
        asked: The server's step.
        message: Holds the sum, and who contributed to it.
        context: This node's.
        credentials: This node's; unset, the server is believed how many contributed.

    Raises:
        OpeningRefusedError: This node holds no key, or will not open this sum.
        PayloadError: The sum is malformed.
        RefusedError: Contributions are not signed by as many as there must be.
    """
    held = context.state.config_records.get(_HELD)
    if held is None:
        raise OpeningRefusedError("this node holds no key: it was never asked to generate one")
    public, secret = held["public"], held["secret"]
    assert isinstance(public, bytes) and isinstance(secret, bytes)
    # Parameters are those that the keys were made for, whatever this message says.
    step = Step.from_json(str(held["step"]))
    holder = KeyHolder(
        step.run,
        make_scheme(step.scheme, step.longest, step.sums, step.trust),
        KeyPair(public, secret, str(held["key-id"])),
        step.min_clients,
        json.loads(str(held["opened"])),
        contributors(roster_of(step, context), context) if step.scheme == "hybrid" else None,
    )
    payload = record_bytes(message.content, PAYLOAD)
    header, _ = unpack(payload)
    if credentials is not None and step.scheme in UNSEEN:
        vouched.check_contributors(header, message, step.min_clients, credentials)
    # A sum that is labelled as one of updates goes nowhere but into the model. Under ckks and
    # packed the label is what the server says it is; under hybrid clients signed it.
    keeps = step.release == "clients" and header.step == "train"
    noises = noising.adds_noise(step)
    noising.check_asked(asked, step, header, context, vouched=credentials is not None)
    fitting.check_not_told(header, context)
    values = holder.open(payload)
    held["opened"] = holder.opened_json()
    content = RecordDict()
    masked = record_bytes(message.content, MASKED) if keeps or noises else b""
    try:
        if keeps:
            values, model = keeping.next_model(step, values, masked, header, context)
            content[MODEL] = bytes_record(model, "model")
        elif noises:
            values = noising.finished(step, values, masked, header, context)
    except MisfitError as error:
        return fitting.told(error, header, message, context)
    content[PAYLOAD] = ArrayRecord({"data": Array(values)})
    return Message(content, reply_to=message)
