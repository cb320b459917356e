"""What an app answers under differential privacy, and what of it nobody else is to know.

The app is told on which terms it is asked, because some leave the noise to it. Whether it kept to
them shows in the ledger, which it is to charge. What goes wrong in it may tell of its data, without
any noise: that something did is told, as it is told who takes part, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flwr.app import ConfigRecord, Context, Message

from qfl.errors import ConfigError, MissingDependencyError, PayloadError, PrivacyError
from qfl.privacy import Terms

_AGREED, _PAID = "qfl-agreed", "qfl-paid"
_FAILED = (
    "something went wrong at this client under differential privacy; its own log says what, which "
    "nobody else is told because it may tell of its data"
)

App = Callable[[Message, Context], Message]


@contextmanager
def keeping_quiet() -> Iterator[None]:
    """Let errors out that are about what the server asked for, and of others only that they are.

    Raises:
        PrivacyError: In place of another error, which stays its cause.
    """
    try:
        yield
    except (ConfigError, MissingDependencyError, PayloadError, PrivacyError):
        raise
    except Exception as error:
        raise PrivacyError(_FAILED) from error


def note_paid(context: Context) -> None:
    """Remember, while a message is answered, that the ledger was charged for it."""
    context.state[_PAID] = ConfigRecord({"paid": True})


def agreed_on(context: Context) -> str:
    """The mechanism on whose terms the message at hand is answered; ``none`` where there are none.

    For apps: what protects each client is not theirs to do, but theirs to rely on.
    """
    held = context.state.config_records.get(_AGREED)
    return "none" if held is None else str(held["mechanism"])


def answer_of(app: App, terms: Terms | None, message: Message, context: Context) -> Message:
    """What the app answers.

    Args:
        app: That the mod is around.
        terms: That were agreed on; None, anything goes.
        message: For the app.
        context: This node's.

    Raises:
        PrivacyError: It failed, or the terms leave the noise to the app and it spent nothing.
    """
    context.state.pop(_PAID, None)
    context.state[_AGREED] = ConfigRecord({"mechanism": terms.mechanism if terms else "none"})
    try:
        if terms is None:
            return app(message, context)
        with keeping_quiet():
            reply = app(message, context)
    finally:
        context.state.pop(_AGREED, None)
    if reply.has_error():
        raise PrivacyError(_FAILED)
    if context.state.pop(_PAID, None) is None and terms.protects == "record":
        raise PrivacyError(
            f"the terms are privacy={terms.mechanism}, and this client's app spent nothing: it "
            "does not train with DP-SGD, or does not enter it (Accounts.spend); its update stays "
            "here"
        )
    return reply
