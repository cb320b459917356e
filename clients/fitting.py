"""Whether what was opened fits the rest of a sum, which a node tells once.

Under ``hybrid`` the rest comes from the server. A server that changes a coordinate of it and asks
again learns each time whether the noise there passes a bound: many such answers give the noise
away, and with it the summed key. So a sum that does not fit is the last one of its round. That is
an answer and no exception: what an exception leaves behind may be forgotten.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Error, Message

from qfl._flower_compat import ErrorCode
from qfl.crypto import Header
from qfl.errors import MisfitError

_MISFIT = "qfl-misfit"


def check_not_told(header: Header, context: Context) -> None:
    """Refuse a sum of a round of which one did not fit, or of one before, in the same words.

    Raises:
        MisfitError: There was one.
    """
    held = context.state.config_records.get(_MISFIT)
    if held is None or held["run"] != header.run:
        return
    if header.round <= int(str(held["round"])):
        raise MisfitError(str(held["said"]))


def told(error: MisfitError, header: Header, message: Message, context: Context) -> Message:
    """The answer that a sum does not fit, after noting it."""
    context.state[_MISFIT] = ConfigRecord(
        {"run": header.run, "round": header.round, "said": str(error)}
    )
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)
