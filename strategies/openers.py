"""The opener that an aggregation asks for."""

from __future__ import annotations

from qfl.strategies.opening import HolderOpens, Opener, ServerOpens
from qfl.strategies.opening_committee import CommitteeOpens
from qfl.strategies.opening_masked import MaskedOpens
from qfl.strategies.session import Session


def opener_of(session: Session) -> Opener:
    """How this session's sums are opened."""
    made = session.aggregation
    if made.scheme == "masking":
        return MaskedOpens(session)
    if made.trust == "committee":
        return CommitteeOpens(session)
    if made.trust == "none":
        return ServerOpens(session)
    return HolderOpens(session)
