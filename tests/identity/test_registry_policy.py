"""A registry with a policy: who becomes known, who may do what, and whose word counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from qfl.identity.identity import DAY, Identity
from qfl.identity.policy import DEFAULT_PERMISSIONS, PERMISSIONS, Enrolled, Policy, sign_policy
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.registry import Registry
from qfl.identity.revocation import Revoked, revoke
from qfl.identity.rotation import rotate

NOW = 1_800_000_000


def create(*roles: str) -> Identity:
    return Identity.create(roles, now=NOW)


OPERATOR, IMPOSTOR = create("operator"), create("operator")
CLINIC, OTHER = create("client"), create("client")
NOTARY, SERVER = create("key_holder"), create("server")
PEOPLE = {"clinic-1": CLINIC, "clinic-2": OTHER, "notary": NOTARY, "server": SERVER}


def enrolled(*names: str) -> list[Enrolled]:
    return [Enrolled(name, PEOPLE[name].did, PEOPLE[name].description.roles) for name in names]


def policy(
    names: Iterable[str] = tuple(PEOPLE), before: Policy | None = None, **granted: list[str]
) -> Policy:
    return sign_policy(
        OPERATOR,
        "clinics",
        enrolled(*names),
        granted or DEFAULT_PERMISSIONS,
        before=before,
        now=NOW,
    )


FIRST = policy()


def registry(*by_hand: tuple[Identity, str], described: bool = True) -> Registry:
    """One that pins the operator and some others by hand, and has an empty revocation list."""
    pinned: dict[str, list[str]] = {OPERATOR.did: ["operator"]}
    for one, role in by_hand:
        pinned.setdefault(one.did, []).append(role)
    made = Registry(pinned, operator=OPERATOR.did)
    if described:
        made.admit([OPERATOR.description])
        made.update(revoke(OPERATOR, None, now=NOW), NOW)
        for one, _ in by_hand:
            made.admit([one.description])
    return made


def following(fresh: Policy = FIRST, *by_hand: tuple[Identity, str]) -> Registry:
    """A registry that follows a policy and has everybody's description."""
    made = registry(*by_hand)
    made.enrol(fresh, NOW)
    for one in fresh.members:
        made.admit([PEOPLE[one.name].description])
    return made


def refused(call: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def reason(call: Callable[[], object]) -> Refusal:
    return Refusal(refused(call).reason)


def allowed(made: Registry, did: str) -> set[str]:
    found, reasons = set(), set()
    for permission in PERMISSIONS:
        try:
            made.permit(did, permission, NOW)
            found.add(permission)
        except RefusedError as error:
            reasons.add(error.reason)
    assert reasons <= {Refusal.PERMISSION}
    return found


# Who is known


def test_members_of_a_policy_are_known_in_their_roles() -> None:
    made = registry()
    assert reason(lambda: made.admit([CLINIC.description])) is Refusal.UNKNOWN_SENDER
    made.enrol(Policy.from_bytes(FIRST.to_bytes()), NOW)
    assert made.policy == FIRST
    made.admit([CLINIC.description])
    assert made.known(CLINIC.did, NOW) == CLINIC.description
    made.check_role(CLINIC.did, "client")
    assert reason(lambda: made.check_role(CLINIC.did, "key_holder")) is Refusal.ROLE
    assert reason(lambda: made.known(NOTARY.did, NOW)) is Refusal.UNKNOWN_SENDER  # not described


def test_a_member_that_is_left_out_is_no_longer_known() -> None:
    made = following()
    second = policy(("clinic-2", "notary", "server"), before=FIRST)
    made.enrol(second, NOW)
    for call in (
        lambda: made.known(CLINIC.did, NOW),
        lambda: made.find(CLINIC.did),
        lambda: made.first_of(CLINIC.did),
        lambda: made.chain_of(CLINIC.did),
        lambda: made.check_role(CLINIC.did, "client"),
        lambda: made.permit(CLINIC.did, "train", NOW),
        lambda: made.admit([CLINIC.description]),
    ):
        assert reason(call) is Refusal.UNKNOWN_SENDER
    made.permit(OTHER.did, "train", NOW)


def test_who_comes_back_goes_on_where_its_rotations_ended() -> None:
    made = following()
    new = rotate(CLINIC, now=NOW)
    made.admit([CLINIC.description, new.description])
    second = policy(("clinic-2",), before=FIRST)
    made.enrol(second, NOW)
    assert reason(lambda: made.known(new.did, NOW)) is Refusal.UNKNOWN_SENDER
    made.enrol(policy(before=second), NOW)
    made.permit(new.did, "train", NOW)
    made.admit([CLINIC.description])  # the old key alone takes nothing back
    assert reason(lambda: made.permit(CLINIC.did, "train", NOW)) is Refusal.SUPERSEDED


def test_roles_follow_the_newest_policy() -> None:
    both = create("client", "key_holder")
    made = registry()
    for sequence, (role, mine) in enumerate(
        [("client", {"train"}), ("key_holder", {"hold_keys", "open"})]
    ):
        one = sign_policy(
            OPERATOR,
            "clinics",
            [Enrolled("both", both.did, (role,))],
            before=replace(FIRST, sequence=sequence) if sequence else None,
            now=NOW,
        )
        made.enrol(one, NOW)
        made.admit([both.description])
        assert allowed(made, both.did) == mine


# What is pinned by hand


def test_a_policy_takes_away_and_changes_nothing_that_was_pinned_by_hand() -> None:
    both = create("client", "key_holder")
    made = registry((both, "client"), (NOTARY, "key_holder"))
    members = [Enrolled("both", both.did, ("client", "key_holder"))]
    made.enrol(sign_policy(OPERATOR, "clinics", members, now=NOW), NOW)
    assert made.known(NOTARY.did, NOW) and made.known(OPERATOR.did, NOW)
    made.check_role(both.did, "client")
    assert reason(lambda: made.check_role(both.did, "key_holder")) is Refusal.ROLE
    # What the policy grants to a role counts in roles that both name.
    assert allowed(made, both.did) == {"train"}
    fewer = [Enrolled("both", both.did, ("key_holder",))]
    made.enrol(sign_policy(OPERATOR, "clinics", fewer, before=made.policy, now=NOW), NOW)
    made.check_role(both.did, "client")
    assert allowed(made, both.did) == set()


def test_who_is_known_by_hand_alone_may_do_nothing_under_a_policy() -> None:
    made = following(policy(("clinic-1",)), (NOTARY, "key_holder"))
    assert allowed(made, NOTARY.did) == set() == allowed(made, OPERATOR.did)
    error = refused(lambda: made.permit(NOTARY.did, "open", NOW))
    assert str(error) == (
        f"{NOTARY.did} has no permission open here: policy 1 does not name it; ask the operator"
    )


def test_without_a_policy_the_defaults_count_for_roles_pinned_by_hand() -> None:
    made = registry((CLINIC, "client"), (NOTARY, "key_holder"), (SERVER, "server"))
    assert made.policy is None
    assert allowed(made, CLINIC.did) == {"train"}
    assert allowed(made, NOTARY.did) == {"hold_keys", "open"}
    assert allowed(made, SERVER.did) == {"release", "serve"}
    assert allowed(made, OPERATOR.did) == {"submit"}
    error = refused(lambda: made.permit(CLINIC.did, "open", NOW))
    assert str(error) == (
        f"{CLINIC.did} has no permission open here: what counts without a policy grants it "
        "neither by name nor to roles ['client']; ask the operator"
    )
    # A role that the description does not name is none.
    pretender = registry((CLINIC, "client"), (CLINIC, "key_holder"))
    assert allowed(pretender, CLINIC.did) == {"train"}


def test_who_is_pinned_as_server_never_opens() -> None:
    two = create("key_holder", "server")
    alone = registry((two, "key_holder"), (two, "server"))
    assert allowed(alone, two.did) == {"release", "serve"}
    # Nor where a policy, which knows nothing of that pin, names it as something else.
    members = [Enrolled("two", two.did, ("key_holder",))]
    wanted = {"open": ["two"], "hold_keys": ["role:key_holder"], "train": ["two"]}
    made = registry((two, "key_holder"), (two, "server"))
    made.enrol(sign_policy(OPERATOR, "clinics", members, wanted, now=NOW), NOW)
    assert allowed(made, two.did) == {"train"}
    error = refused(lambda: made.permit(two.did, "open", NOW))
    assert str(error).startswith(f"two ({two.did}) has no permission open here: it is pinned as a")


# What is permitted


def test_members_may_do_what_the_policy_grants() -> None:
    made = following(policy(train=["role:client", "notary"], open=["clinic-2"], serve=[]))
    assert allowed(made, CLINIC.did) == {"train"}
    assert allowed(made, OTHER.did) == {"train", "open"}
    assert allowed(made, NOTARY.did) == {"train"}
    assert allowed(made, SERVER.did) == set()
    error = refused(lambda: made.permit(CLINIC.did, "open", NOW))
    assert error.reason is Refusal.PERMISSION
    assert str(error) == (
        f"clinic-1 ({CLINIC.did}) has no permission open here: policy 1 grants it neither by name "
        "nor to roles ['client']; ask the operator"
    )
    assert reason(lambda: made.permit(CLINIC.did, "dance", NOW)) is Refusal.PERMISSION


def test_a_role_needs_the_description_too_and_a_name_does_not() -> None:
    members = [Enrolled("clinic-1", CLINIC.did, ("client", "key_holder"))]
    wanted = {"open": ["role:key_holder"], "hold_keys": ["clinic-1"]}
    made = registry()
    made.enrol(sign_policy(OPERATOR, "clinics", members, wanted, now=NOW), NOW)
    made.admit([CLINIC.description])  # which says client only
    assert allowed(made, CLINIC.did) == {"hold_keys"}


def test_a_rotated_member_keeps_its_permissions_and_its_old_key_does_not() -> None:
    made = following()
    new = rotate(CLINIC, now=NOW)
    made.admit([CLINIC.description, new.description])
    assert allowed(made, new.did) == {"train"}
    assert reason(lambda: made.permit(CLINIC.did, "train", NOW)) is Refusal.SUPERSEDED
    assert made.first_of(new.did) == made.first_of(CLINIC.did) == CLINIC.did
    assert made.chain_of(new.did) == (CLINIC.description, new.description)
    assert made.chain_of(CLINIC.did) == made.chain_of(new.did)
    error = refused(lambda: made.permit(new.did, "open", NOW))
    assert str(error).startswith(f"clinic-1 ({new.did}) has no permission open")


def test_nobody_is_permitted_anything_who_does_not_count() -> None:
    made = following()
    nobody = create("client")
    permit = made.permit
    assert reason(lambda: permit(nobody.did, "train", NOW)) is Refusal.UNKNOWN_SENDER
    assert reason(lambda: permit("", "train", NOW)) is Refusal.UNKNOWN_SENDER
    assert reason(lambda: permit(CLINIC.did, "train", NOW - DAY)) is Refusal.NOT_YET_VALID
    assert reason(lambda: permit(CLINIC.did, "train", NOW + 31 * DAY)) is Refusal.STALE
    assert reason(lambda: permit(CLINIC.did, "train", float("nan"))) is Refusal.STALE
    assert made.revocations is not None
    lost = revoke(OPERATOR, made.revocations, [Revoked(CLINIC.did, NOW, "lost")], now=NOW)
    made.update(lost, NOW)
    assert reason(lambda: permit(CLINIC.did, "train", NOW)) is Refusal.REVOKED
    made.permit(OTHER.did, "train", NOW)


# Whose word counts


def test_only_the_operator_enrols() -> None:
    made = registry()
    forged = sign_policy(IMPOSTOR, "clinics", enrolled("clinic-1"), now=NOW)
    for fresh, expected in (
        (forged, Refusal.ISSUER),
        (replace(forged, issuer=OPERATOR.did), Refusal.SIGNATURE),
        (replace(FIRST, signature=b""), Refusal.NOT_SIGNED),
        (replace(FIRST, sequence=9), Refusal.SIGNATURE),
    ):
        assert reason(lambda fresh=fresh: made.enrol(fresh, NOW)) is expected
    assert made.policy is None
    assert reason(lambda: made.admit([CLINIC.description])) is Refusal.UNKNOWN_SENDER


def test_nobody_enrols_where_no_operator_is_pinned_or_described() -> None:
    error = refused(lambda: Registry({CLINIC.did: ["client"]}).enrol(FIRST, NOW))
    assert error.reason is Refusal.ISSUER and "none is pinned here" in str(error)
    error = refused(lambda: registry(described=False).enrol(FIRST, NOW))
    assert error.reason is Refusal.ISSUER and "has not been described yet" in str(error)


def test_an_operator_that_does_not_count_enrols_nobody() -> None:
    made = registry()
    assert reason(lambda: made.enrol(FIRST, NOW + 366 * DAY)) is Refusal.EXPIRED
    assert reason(lambda: made.enrol(FIRST, NOW - DAY)) is Refusal.NOT_YET_VALID
    early = sign_policy(OPERATOR, "clinics", [], now=NOW + 400)
    assert reason(lambda: made.enrol(early, NOW)) is Refusal.NOT_YET_VALID
    gone = revoke(OPERATOR, made.revocations, [Revoked(OPERATOR.did, NOW, "compromised")], now=NOW)
    made.update(gone, NOW)
    assert reason(lambda: made.enrol(FIRST, NOW)) is Refusal.REVOKED


def test_a_rotated_operator_goes_on() -> None:
    made = following()
    new = rotate(OPERATOR, now=NOW)
    second = sign_policy(new, "clinics", enrolled("clinic-1"), before=FIRST, now=NOW)
    assert reason(lambda: made.enrol(second, NOW)) is Refusal.ISSUER
    made.admit([OPERATOR.description, new.description])
    assert reason(lambda: made.enrol(policy(before=FIRST), NOW)) is Refusal.ISSUER
    made.enrol(second, NOW)
    assert made.policy == second


def test_policies_go_forward_only() -> None:
    second = policy(("clinic-1",), before=FIRST)
    made = following()
    made.enrol(Policy.from_bytes(FIRST.to_bytes()), NOW)  # the same again does no harm
    made.enrol(second, NOW)
    error = refused(lambda: made.enrol(FIRST, NOW))
    assert error.reason is Refusal.SEQUENCE
    assert str(error) == "policy 1 is older than policy 2, which is known"
    error = refused(lambda: made.enrol(policy(("notary",), before=FIRST), NOW))
    assert error.reason is Refusal.SEQUENCE and str(error) == "another policy 2 is known"
    assert made.policy == second
    assert reason(lambda: made.find(NOTARY.did)) is Refusal.UNKNOWN_SENDER


def test_a_policy_of_another_federation_is_refused() -> None:
    made = following()
    others = sign_policy(OPERATOR, "others", [], now=NOW)
    others = sign_policy(OPERATOR, "others", [], before=others, now=NOW)
    error = refused(lambda: made.enrol(others, NOW))
    assert error.reason is Refusal.SEQUENCE
    assert "is of federation 'others'; policies of 'clinics' are followed here" in str(error)
    assert made.policy == FIRST


def test_a_rotated_identifier_is_enrolled_as_nobody_else() -> None:
    made = following()
    new = rotate(CLINIC, now=NOW)
    made.admit([CLINIC.description, new.description])
    twin = Enrolled("twin", new.did, ("client",))
    double = sign_policy(OPERATOR, "clinics", [*enrolled("clinic-1"), twin], before=FIRST, now=NOW)
    error = refused(lambda: made.enrol(double, NOW))
    assert error.reason is Refusal.ROTATION
    assert f"names {new.did}, to which {CLINIC.did} rotated" in str(error)
    assert made.policy == FIRST and made.known(new.did, NOW)
    # In the place of the old one it is somebody new.
    anew = sign_policy(OPERATOR, "clinics", [twin], before=FIRST, now=NOW)
    made.enrol(anew, NOW)
    assert reason(lambda: made.known(new.did, NOW)) is Refusal.UNKNOWN_SENDER
    made.admit([new.description])
    assert allowed(made, new.did) == {"train"} and made.first_of(new.did) == new.did


def test_a_member_cannot_rotate_into_another_member() -> None:
    made = registry()
    new = rotate(CLINIC, now=NOW)
    twin = Enrolled("twin", new.did, ("client",))
    made.enrol(sign_policy(OPERATOR, "clinics", [*enrolled("clinic-1"), twin], now=NOW), NOW)
    chain = [CLINIC.description, new.description]
    assert reason(lambda: made.admit(chain)) is Refusal.ROTATION
