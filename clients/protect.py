"""The mod that protects what a ClientApp returns.

Around any ClientApp, also somebody else's: the app trains and returns its arrays as always; the
mod takes the difference to the global model, rounds it to the grid, protects it, and sends that in
their place. Counts and metrics travel inside the same vector; under differential privacy they stay
here. A server that asks for no protection gets the app's own reply, unless ``require`` or a floor
forbids that.

The same mod makes a node a key holder when the server asks it to generate the keys of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from qfl.clients import committee, holding, keeping, masking, vouched
from qfl.clients.accounts import Accounts, fitting_level
from qfl.clients.keys import announce, learn, member_keys, protected_mask, protecting_key
from qfl.clients.masking import Masking
from qfl.clients.private_answer import answer_of
from qfl.clients.sign import Source, credentials_of
from qfl.clients.updates import numbers, weighed
from qfl.crypto import CORRUPTED, DROPOUT, IntVector, Layout, Plain, Step, make_scheme, pack
from qfl.errors import PayloadError
from qfl.identity.credentials import Credentials
from qfl.identity.vouching import UNSEEN
from qfl.records import (
    CLEAR,
    INBOX,
    PAYLOAD,
    STEP,
    arrays_of,
    bytes_record,
    content_digest,
    record_bytes,
)

Next = Callable[[Message, Context], Message]

ROLES = ("client", "key-holder", "both")

_KINDS = {"train": ("train",), "evaluate": ("evaluate",), "sum": ("query",)}
Answer = Callable[[Step, Message, Context], Message]
# What needs no ClientApp.
_ANSWERS: dict[str, Answer] = {
    "keygen": holding.generate,
    "adopt": keeping.adopt,
}
_COMMITTEE: dict[str, Answer] = {
    "keygen": committee.give_model_key,
    "agree": committee.agree,
    "open": committee.share,
    "combine": committee.combine,
}


class ProtectMod:
    """Protects replies, and holds the key where asked to.

    Args:
        role: ``client``, ``key-holder`` or ``both``, or a function of the context that says so.
            Unset, it is the node's ``role`` in its node configuration, else ``client``.
        require: Scheme without which this client sends nothing. Unset, a server that asks for no
            protection gets none.
        clear: Largest share of an update that may travel in the clear, where the server protects
            a choice of parameters only. Unset, none with ``require`` and any without.
        dropout: Scheme ``masking``: share of clients that may vanish in a round, as the server's.
        corrupted: Scheme ``masking``: share of clients that may collude with the server, likewise.
        accounts: What this client insists on, and its ledger, under differential privacy.
        credentials: As :class:`SignMod`'s, which then stands before this mod. With them the floor
            in them counts, and keys and contributors are believed only as far as somebody vouches
            for them. Unset, the server is trusted to tell who takes part.

    Example:
        >>> from flwr.clientapp import ClientApp
        >>> app = ClientApp(mods=[ProtectMod(require="ckks")])
    """

    def __init__(
        self,
        *,
        role: str | Callable[[Context], str] | None = None,
        require: str | None = None,
        clear: float | None = None,
        dropout: float = DROPOUT,
        corrupted: float = CORRUPTED,
        accounts: Accounts | None = None,
        credentials: Source | None = None,
    ) -> None:
        self._role = role
        self._source = credentials
        self._require = require
        self._clear = clear if clear is not None else float(require is None)
        self._accounts = accounts or Accounts()
        self._masking = Masking(dropout, corrupted)

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Handle one message.

        Raises:
            PayloadError: The server's step is malformed, or weaker than ``require``.
            RangeError: The update cannot be summed without wrapping.
            OpeningRefusedError: This key holder will not open the sum.
            PrivacyError: The terms are weaker than this client's floor, or its budget is spent.
            RefusedError: The step is weaker than the floor in the credentials, or asks to rely on
                somebody who is not vouched for.
        """
        own = None if self._source is None else credentials_of(self._source, context)
        record = message.content.config_records.get(STEP)
        if record is None:
            if own is not None:
                own.floor.check_unprotected()
            if self._require:
                raise PayloadError(
                    "the server asks for an unprotected reply; this client requires scheme "
                    f"'{self._require}'"
                )
            if self._accounts.floor is not None:
                self._accounts.floor.check(None, 0)
            return call_next(message, context)
        step = Step.from_json(str(record.get("step")))
        if self._require and step.scheme != self._require:
            raise PayloadError(
                f"the server asks for scheme '{step.scheme}'; this client requires "
                f"'{self._require}'"
            )
        if own is not None:
            vouched.insist(step, context, own)
        if step.step == "hello":
            return self._hello(step, message, context, own)
        learn(step, message, context, own)
        self._check_clear(context, own)
        if step.step == "keygen":
            self._accounts.insist(step)
        if step.scheme == "masking" and step.step in masking.STEPS:
            return self._masking.answer(step, message, context)
        answer = _COMMITTEE.get(step.step) if step.trust == "committee" else None
        if answer is None and step.step == "open":
            return holding.open_sum(step, message, context, own)
        if answer := answer or _ANSWERS.get(step.step):
            reply = answer(step, message, context)
            if step.step == "keygen" and own is not None:
                vouched.sign_keys(step, reply, context, own)
            return reply
        return self._protect(step, message, context, call_next, own)

    def _check_clear(self, context: Context, own: Credentials | None) -> None:
        mask = protected_mask(context)
        share = 0.0 if mask is None else 1 - float(mask.mean())
        if own is not None:
            own.floor.check_clear(share)
        if share > self._clear:
            raise PayloadError(
                f"the server asks for {share:.1%} of the update in the clear; this client allows "
                f"{self._clear:.1%}"
            )

    def _hello(
        self, step: Step, message: Message, context: Context, own: Credentials | None
    ) -> Message:
        role = self._role(context) if callable(self._role) else self._role
        role = role or str(context.node_config.get("role", "client"))
        if role not in ROLES:
            raise PayloadError(f"role '{role}' is unknown; known: {', '.join(ROLES)}")
        roles = MetricRecord(
            {"client": int(role != "key-holder"), "key-holder": int(role != "client")}
        )
        if "partition-id" in context.node_config:
            roles["index"] = int(context.node_config["partition-id"])
        content = announce(step, context)
        content["roles"] = roles
        reply = Message(content, reply_to=message)
        if own is not None:
            vouched.sign_member(step, reply, own)
        return reply

    def _protect(
        self,
        step: Step,
        message: Message,
        context: Context,
        call_next: Next,
        own: Credentials | None,
    ) -> Message:
        kind = message.metadata.message_type
        if kind.split(".")[0] not in _KINDS.get(step.step, ()):
            raise PayloadError(
                f"step {step.step} does not go with a message of type '{kind}': a trained model "
                "could be summed as if it were a statistic"
            )
        if own is not None:
            own.permit(own.did, "train")
        step = _bound(step, message)
        terms = self._accounts.agree(step)
        key = protecting_key(step, context)
        del message.content[STEP]
        inbox = b""
        if step.scheme == "masking":
            inbox = record_bytes(message.content, INBOX)
            del message.content[INBOX]
        if step.release == "clients" and step.step != "sum":
            keeping.unlock_model(step, message, context)
        before = {name: arrays_of(record) for name, record in message.content.array_records.items()}
        level = None
        if terms is not None and terms.protects == "client":
            if protected_mask(context) is not None:
                raise PayloadError(
                    f"the server asks for a part of the update in the clear under privacy="
                    f"{terms.mechanism}: it would leave without its noise"
                )
            length = sum(Layout.of(arrays).length for arrays in before.values())
            level = fitting_level(terms, step, length)
            self._accounts.spend(
                level.charge(),
                terms.budget,
                message,
                context,
                run=step.run,
                round=step.round,
                attempt=step.attempt,
            )

        reply = answer_of(call_next, terms, message, context)
        if reply.has_error():
            return reply
        values = numbers(step, reply) if step.step == "sum" else weighed(step, reply, before, level)
        content = RecordDict()
        if step.step == "train" and (mask := protected_mask(context)) is not None:
            values, clear = _split(values, mask)
            body = Plain(step.sums).protect(clear, b"")
            content[CLEAR] = bytes_record(pack(step.clear_header(clear.size), body), "plain")
        if step.scheme == "masking":
            body = self._masking.mask(step, values, inbox, context)
        else:
            scheme = make_scheme(step.scheme, step.longest, step.sums, step.trust)
            signer = member_keys(step, context) if step.scheme == "hybrid" else None
            body = scheme.protect(values, key, place=step.place, signer=signer)
        header = step.header(values.size)
        content[PAYLOAD] = bytes_record(pack(header, body), step.scheme)
        reply = Message(content, reply_to=message)
        if own is not None and step.scheme in UNSEEN:
            vouched.sign_contribution(header, body, reply, own)
        return reply


def _bound(step: Step, message: Message) -> Step:
    """The step, bound to the model and settings that came with it.

    Raises:
        PayloadError: The server told of others.
    """
    content = content_digest(message.content)
    if step.content not in ("", content):
        raise PayloadError(
            f"the server told of a model and settings with digest {step.content} and sent {content}"
        )
    return replace(step, content=content)


def _split(values: IntVector, mask: NDArray[np.bool_]) -> tuple[IntVector, IntVector]:
    """What is protected, weight and metrics included, and what is not."""
    if mask.size > values.size or not mask.any():
        raise PayloadError(
            f"the server chose {int(mask.sum())} of {mask.size} parameters to protect; this "
            f"client sums {values.size} numbers, and protects at least one of its parameters"
        )
    update, rest = values[: mask.size], values[mask.size :]
    return np.concatenate([update[mask], rest]), update[~mask]
