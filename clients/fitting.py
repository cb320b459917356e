"""Whether what was opened fits the rest of a sum, which a node tells once.

Under ``hybrid`` the rest comes from the server. A server that changes a coordinate of it and asks
again learns each time whether the noise there, or the sum, passes a bound: many such answers give
the noise away, and with it the summed key. So a sum that does not fit is the last one of its round.
That is an answer and no exception: what an exception leaves behind may be forgotten.
"""

from __future__ import annotations

import logging

from flwr.app import ConfigRecord, Context, Error, Message

from qfl._flower_compat import ErrorCode
from qfl.crypto import Header
from qfl.errors import MisfitError

SAID = (
    "what was opened does not fit the rest of the sum: was a contribution added on one side only, "
    "or masked for another place? Nothing more is opened of this round"
)
_MISFIT = "qfl-misfit"
_log = logging.getLogger(__name__)


def check_not_told(header: Header, context: Context) -> None:
    """Refuse a sum of a round of which one did not fit, or of one before, in the same words.

    Raises:
        MisfitError: There was one.
    """
    held = context.state.config_records.get(_MISFIT)
    if held is None or held["run"] != header.run:
        return
    if header.round <= int(str(held["round"])):
        raise MisfitError(SAID)


def told(error: MisfitError, header: Header, message: Message, context: Context) -> Message:
    """The answer that a sum does not fit, after noting it; why is for this node's own log."""
    _log.warning("round %d: %s", header.round, error)
    context.state[_MISFIT] = ConfigRecord({"run": header.run, "round": header.round})
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, SAID), reply_to=message)
