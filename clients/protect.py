"""The mod that protects what a ClientApp returns.

Around any ClientApp, also somebody else's: the app trains and returns its arrays as always; the
mod takes the difference to the global model, rounds it to the grid, encrypts it, and sends the
ciphertext in their place. Counts and metrics travel inside the same vector. A server that asks for
no protection gets the app's own reply, unless ``require`` forbids that.

The same mod makes a node a key holder when the server asks it to generate the keys of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from qfl.crypto import (
    Header,
    IntVector,
    KeyHolder,
    KeyPair,
    Layout,
    Step,
    make_scheme,
    pack,
    to_grid,
    to_limbs,
)
from qfl.errors import OpeningRefusedError, PayloadError
from qfl.records import (
    KEY,
    NUM_EXAMPLES,
    PAYLOAD,
    STEP,
    arrays_of,
    bytes_record,
    record_bytes,
)

Next = Callable[[Message, Context], Message]

_HELD = "qfl-key-holder"
ROLES = ("client", "key-holder", "both")


class ProtectMod:
    """Protects replies, and holds the key where asked to.

    Args:
        role: ``client``, ``key-holder`` or ``both``, or a function of the context that says so.
            Unset, it is the node's ``role`` in its node configuration, else ``client``.
        require: Scheme without which this client sends nothing. Unset, a server that asks for no
            protection gets none.

    Example:
        >>> from flwr.clientapp import ClientApp
        >>> app = ClientApp(mods=[ProtectMod(require="ckks")])
    """

    def __init__(
        self, *, role: str | Callable[[Context], str] | None = None, require: str | None = None
    ) -> None:
        self._role = role
        self._require = require

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Handle one message.

        Raises:
            PayloadError: The server's step is malformed, or weaker than ``require``.
            RangeError: The update cannot be summed without wrapping.
            OpeningRefusedError: This key holder will not open the sum.
        """
        record = message.content.config_records.get(STEP)
        if record is None:
            if self._require:
                raise PayloadError(
                    "the server asks for an unprotected reply; this client requires scheme "
                    f"'{self._require}'"
                )
            return call_next(message, context)
        step = Step.from_json(str(record.get("step")))
        if self._require and step.scheme != self._require:
            raise PayloadError(
                f"the server asks for scheme '{step.scheme}'; this client requires "
                f"'{self._require}'"
            )
        if step.step == "hello":
            return self._hello(message, context)
        if step.step == "keygen":
            return _generate(step, message, context)
        if step.step == "open":
            return _open(message, context)
        return _protect(step, message, context, call_next)

    def _hello(self, message: Message, context: Context) -> Message:
        role = self._role(context) if callable(self._role) else self._role
        role = role or str(context.node_config.get("role", "client"))
        if role not in ROLES:
            raise PayloadError(f"role '{role}' is unknown; known: {', '.join(ROLES)}")
        roles = MetricRecord(
            {"client": int(role != "key-holder"), "key-holder": int(role != "client")}
        )
        if "partition-id" in context.node_config:
            roles["index"] = int(context.node_config["partition-id"])
        return Message(RecordDict({"roles": roles}), reply_to=message)


def _generate(step: Step, message: Message, context: Context) -> Message:
    """Make the keys of a run once; asked again, answer with the same public key."""
    if step.min_clients < 2:
        raise OpeningRefusedError(
            f"asked to make keys for sums of at least {step.min_clients} updates; a sum of one "
            "update is that update: must be >= 2"
        )
    held = context.state.config_records.get(_HELD)
    if held is None or Step.from_json(str(held["step"])).run != step.run:
        scheme = make_scheme(step.scheme, step.longest, step.sums)
        holder = KeyHolder.create(step.run, scheme, step.min_clients)
        held = ConfigRecord(
            {
                "step": step.to_json(),
                "public": holder.keys.public,
                "secret": holder.keys.secret,
                "key-id": holder.keys.key_id,
                "opened": holder.opened_json(),
            }
        )
        context.state[_HELD] = held
    public = held["public"]
    assert isinstance(public, bytes)
    return Message(RecordDict({KEY: bytes_record(public, "key")}), reply_to=message)


def _open(message: Message, context: Context) -> Message:
    held = context.state.config_records.get(_HELD)
    if held is None:
        raise OpeningRefusedError("this node holds no key: it was never asked to generate one")
    public, secret = held["public"], held["secret"]
    assert isinstance(public, bytes) and isinstance(secret, bytes)
    # Parameters are those that the keys were made for, whatever this message says.
    step = Step.from_json(str(held["step"]))
    holder = KeyHolder(
        step.run,
        make_scheme(step.scheme, step.longest, step.sums),
        KeyPair(public, secret, str(held["key-id"])),
        step.min_clients,
        json.loads(str(held["opened"])),
    )
    values = holder.open(record_bytes(message.content, PAYLOAD))
    held["opened"] = holder.opened_json()
    return Message(RecordDict({PAYLOAD: ArrayRecord({"data": Array(values)})}), reply_to=message)


def _protect(step: Step, message: Message, context: Context, call_next: Next) -> Message:
    public = _public_key(step, message, context)
    sent = dict(message.content.array_records)
    for name in (STEP, KEY):
        if name in message.content:
            del message.content[name]
        sent.pop(name, None)
    before = {name: arrays_of(record) for name, record in sent.items()}

    reply = call_next(message, context)
    if reply.has_error():
        return reply
    values = _numbers(step, reply) if step.step == "sum" else _weighed(step, reply, before)
    scheme = make_scheme(step.scheme, step.longest, step.sums)
    header = Header(step.scheme, step.key_id, step.run, step.round, step.label, values.size)
    payload = pack(header, scheme.protect(values, public))
    return Message(RecordDict({PAYLOAD: bytes_record(payload, step.scheme)}), reply_to=message)


def _public_key(step: Step, message: Message, context: Context) -> bytes:
    """The run's public key: it comes with the first message and is kept."""
    if not step.key_id:
        return b""
    if KEY in message.content.array_records:
        key = record_bytes(message.content, KEY)
        context.state[KEY] = bytes_record(key, "key")
    elif KEY in context.state.array_records:
        key = record_bytes(context.state, KEY)
    else:
        raise PayloadError(f"the run's public key {step.key_id} never reached this client")
    if (found := hashlib.sha256(key).hexdigest()[:16]) != step.key_id:
        raise PayloadError(f"this client has public key {found}, the step names {step.key_id}")
    return key


def _numbers(step: Step, reply: Message) -> IntVector:
    """Numbers of unknown size: all arrays of the reply, as limbs."""
    parts = [
        np.asarray(array, dtype=np.float64).ravel()
        for record in reply.content.array_records.values()
        for array in arrays_of(record).values()
    ]
    return to_limbs(np.concatenate(parts) if parts else np.zeros(0), step.sums)


def _weighed(step: Step, reply: Message, before: dict[str, dict[str, np.ndarray]]) -> IntVector:
    """Update, weight and metrics as one vector."""
    metrics = next(iter(reply.content.metric_records.values()), MetricRecord())
    weight = _weight(step, metrics)
    values = []
    if step.step == "train":
        if len(before) != 1 or len(reply.content.array_records) != 1:
            raise PayloadError(
                f"the server sent {len(before)} array records and the app returned "
                f"{len(reply.content.array_records)}; exactly one each can be summed"
            )
        (old,) = before.values()
        layout = Layout.of(old)
        new = arrays_of(next(iter(reply.content.array_records.values())))
        values.append(to_grid(layout.flatten(new) - layout.flatten(old), weight, step.sums))
    values.append(to_grid([1.0], weight, step.sums))
    if missing := [name for name in step.metrics if not isinstance(metrics.get(name), int | float)]:
        raise PayloadError(
            f"the app returned no number for metric '{missing[0]}'; it returned: "
            f"{', '.join(metrics) or 'none'}"
        )
    weighed = [weight * float(metrics[name]) for name in step.metrics]  # type: ignore[arg-type]
    values.append(to_limbs(weighed, step.sums))
    return np.concatenate(values)


def _weight(step: Step, metrics: MetricRecord) -> float:
    if step.examples == 0:
        return 1.0 / step.clients
    examples = metrics.get(NUM_EXAMPLES)
    if not isinstance(examples, int | float) or not 0 <= examples <= step.examples:
        raise PayloadError(
            f"the app returned {NUM_EXAMPLES}={examples!r}; weighting by examples needs a number "
            f"between 0 and the {step.examples} counted at the start"
        )
    return float(examples) / step.examples
