"""A client in a sum under masks: five short steps around the one that sends its update."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict

from qfl.clients.keys import member_keys, roster_of
from qfl.crypto import IntVector, MaskingClient, MaskingRules, Step
from qfl.errors import OpeningRefusedError
from qfl.records import PAYLOAD, bytes_record, record_bytes

_STATE = "qfl-masking"
_PLACES = "qfl-masking-places"
STEPS = ("advertise", "deal", "agree", "reveal")


class Masking:
    """What this client does in a sum under masks.

    Args:
        dropout: Share of clients that may vanish in a round; from this client's own settings.
        corrupted: Share of clients that may collude with the server; likewise.
    """

    def __init__(self, dropout: float, corrupted: float) -> None:
        self._dropout, self._corrupted = dropout, corrupted

    def answer(self, step: Step, message: Message, context: Context) -> Message:
        """Take one of :data:`STEPS`.

        Raises:
            OpeningRefusedError: It is not this step's turn, or the set of survivors is not sound.
            PayloadError: What the server passed on is malformed, or not signed.
        """
        client = self._client(step, context)
        takes: dict[str, Callable[[bytes], bytes]] = {
            "deal": client.share,
            "agree": client.agree,
            "reveal": client.reveal,
        }
        if step.step == "advertise":
            sent = client.advertise()
        else:
            sent = takes[step.step](record_bytes(message.content, PAYLOAD))
        _keep(client, step, context)
        return Message(RecordDict({PAYLOAD: bytes_record(sent, step.step)}), reply_to=message)

    def mask(self, step: Step, values: IntVector, inbox: bytes, context: Context) -> bytes:
        """The vector under this client's masks.

        Raises:
            OpeningRefusedError: This client has not dealt its shares, or has masked already.
            PayloadError: The inbox is malformed.
            RangeError: A value exceeds the capacity.
        """
        client = self._client(step, context)
        masked = client.mask(values, inbox)
        _keep(client, step, context)
        return masked

    def _client(self, step: Step, context: Context) -> MaskingClient:
        keys, roster = member_keys(step, context), roster_of(step, context)
        rules = MaskingRules(step.sums, step.min_clients, self._dropout, self._corrupted)
        held = context.state.config_records.get(_STATE)
        if held is not None and held["place"] == step.place:
            state = held["state"]
            assert isinstance(state, bytes)
            return MaskingClient.from_bytes(state, keys, roster, step.place, rules)
        if step.step != "advertise":
            raise OpeningRefusedError(
                f"asked to {step.step} for {step.place}, in which this client has no part: it made "
                "no keys for it"
            )
        _use(step, context)
        return MaskingClient(keys, roster, step.place, rules)


def _use(step: Step, context: Context) -> None:
    """Note that this client took part in a sum: at one place it masks once."""
    held = context.state.config_records.get(_PLACES)
    before = held["places"] if held is not None and held["run"] == step.run else []
    assert isinstance(before, list)
    if step.place in before:
        raise OpeningRefusedError(
            f"asked to take part in {step.place} a second time: a client masks once for each place"
        )
    context.state[_PLACES] = ConfigRecord({"run": step.run, "places": [*before, step.place]})


def _keep(client: MaskingClient, step: Step, context: Context) -> None:
    context.state[_STATE] = ConfigRecord({"place": step.place, "state": client.to_bytes()})
