"""Whether the operator said something: policies, revocation lists, manifests of kits."""

from __future__ import annotations

from qfl.identity.description import Description
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.signed import Kind, check_signature


def check_issued(
    kind: Kind, what: str, issuer: str, body: bytes, signature: bytes, operator: Description
) -> None:
    """Make sure that the operator signed a document.

    Args:
        kind: Of the document.
        what: Its name in messages.
        issuer: Who it says has issued it.
        body: What must have been signed.
        signature: The signature; empty where there is none.
        operator: Whom the receiver knows as the operator.

    Raises:
        RefusedError: Somebody else issued it, or its signature is missing or wrong.
    """
    if issuer != operator.did:
        raise RefusedError(
            Refusal.ISSUER, f"{what} is issued by {issuer}; the operator is {operator.did}"
        )
    if "operator" not in operator.roles:
        raise RefusedError(
            Refusal.ISSUER,
            f"{what} is issued by {issuer}, whose roles are {list(operator.roles)}; expected "
            "operator among them",
        )
    if not signature:
        raise RefusedError(Refusal.NOT_SIGNED, f"{what} is not signed")
    check_signature(operator.algorithm, operator.public, body, signature, kind.context, what)
