"""Whether a kit is as it was made, belongs together, and is good still."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qfl.errors import QflError, StorageError
from qfl.federation.provision_commit import CHANGE, locked
from qfl.federation.provision_keys import check_dates, check_node_key, check_server
from qfl.federation.provision_kit import MANIFEST, label_of, read_kit
from qfl.federation.provision_office import OFFICE
from qfl.federation.provision_plan import Address
from qfl.identity.credential_files import load_credentials
from qfl.identity.credentials import Credentials, chain_from_bytes
from qfl.identity.description import check_did
from qfl.identity.identity import DAY
from qfl.identity.kit_manifest import KitManifest
from qfl.identity.policy import POLICY, Policy
from qfl.identity.private_file import read_private
from qfl.identity.refusal import Refusal, RefusedError
from qfl.identity.revocation import LIST, RevocationList

SOON_DAYS = 30
_ANEW = "get the kit anew from the operator, and trust nothing in this one"
_RENEW = "ask the operator for qfl provision rotate, and replace the kit"
_GONE = "the member was revoked: ask the operator for a new kit"
_MENDS: dict[str, str] = {
    Refusal.EXPIRED: _RENEW,
    Refusal.STALE: _RENEW,
    Refusal.REVOKED: _GONE,
    Refusal.UNKNOWN_SENDER: _GONE,
    Refusal.NOT_YET_VALID: "set the clock right, or ask the operator when the kit begins",
    Refusal.ISSUER: "ask the operator for its identifier, and use no kit of another",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a kit.

    Attributes:
        what: What was found.
        mend: What to do.
    """

    what: str
    mend: str


@dataclass
class Verdict:
    """What is said of a kit.

    Attributes:
        kit: Where it lies.
        name: Whose it is; empty where that cannot be told.
        federation: The federation's name.
        roles: The member's.
        operator: The operator's identifier: compare it with one that came another way.
        ends: When what is in it runs out, in seconds since 1970 in UTC.
        findings: What is wrong; empty where all holds.
    """

    kit: Path
    name: str = ""
    federation: str = ""
    roles: tuple[str, ...] = ()
    operator: str = ""
    ends: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def attempt(self, check: Callable[[], None], mend: str) -> None:
        """Note what a check refuses."""
        try:
            check()
        except QflError as error:
            reason = error.reason if isinstance(error, RefusedError) else ""
            mend = _MENDS.get(reason, mend)
            self.findings.append(Finding(str(error), mend))


def check_kit(kit: Path, *, operator: str = "", now: float | None = None) -> Verdict:
    """Check a kit, and finish a change of it that a crash cut off.

    Args:
        kit: Its folder.
        operator: Identifier of the operator, from elsewhere; unset, whoever signed is believed.
        now: Seconds since 1970 in UTC for what is checked against certificates and validities;
            unset, the clock's.

    Raises:
        StorageError: It is no folder of a kit.
        RefusedError: ``operator`` is no identifier.
    """
    now = time.time() if now is None else now
    if operator:
        check_did(operator)
    if kit.is_file():
        raise StorageError(f"{kit} is sealed: qfl provision unpack {kit} -o DIR opens it")
    if (kit / "federation.json").exists():
        raise StorageError(f"{kit} is an operator's folder: give the folder of a member's kit")
    if not kit.is_dir():
        raise StorageError(f"{kit} is no folder: give the folder of a kit")
    if (kit.absolute().parent / CHANGE).is_dir():
        with locked(kit.absolute().parent):
            pass
    verdict = Verdict(kit)
    if not _modes(verdict):
        return verdict  # what others may have changed is not worth reading
    files = read_kit(kit)
    verdict.attempt(lambda: _manifest(verdict, files, operator), _ANEW)
    verdict.attempt(lambda: _label(verdict, files), _ANEW)
    verdict.attempt(lambda: _credentials(verdict, files, now), _ANEW)
    verdict.attempt(lambda: _tls(verdict, files, now), _ANEW)
    if set(verdict.roles) - {"server"}:
        verdict.attempt(
            lambda: check_node_key(files.get("node.key", b""), files.get("node.pub", b"")), _ANEW
        )
    return verdict


def _modes(verdict: Verdict) -> bool:
    for path in (verdict.kit, *sorted(verdict.kit.rglob("*"))):
        found = path.lstat().st_mode
        if stat.S_ISLNK(found):
            verdict.findings.append(Finding(f"{path} is a link", "put a plain file in its place"))
        elif found & 0o077:
            right = "700" if stat.S_ISDIR(found) else "600"
            verdict.findings.append(
                Finding(
                    f"{path} has mode {stat.S_IMODE(found):04o}, so others may read or change it",
                    f"run: chmod {right} {path}",
                )
            )
    return not verdict.findings


def _manifest(verdict: Verdict, files: Mapping[str, bytes], operator: str) -> None:
    manifest = KitManifest.from_bytes(files.get(MANIFEST, b""))
    verdict.name, verdict.federation = manifest.name, manifest.federation
    verdict.operator = manifest.issuer
    rest = {path: data for path, data in files.items() if path != MANIFEST}
    verdict.findings += [Finding(said, _ANEW) for said in manifest.differences(rest)]
    chain = chain_from_bytes(files.get("operator.cbor", b""))
    for one in chain:
        one.check_signature()
    manifest.verify(chain[-1])
    if operator and chain[0].did != operator:
        raise RefusedError(
            Refusal.ISSUER, f"the operator of this kit is {chain[0].did}, not {operator}"
        )


def _label(verdict: Verdict, files: Mapping[str, bytes]) -> None:
    label = label_of(files)
    verdict.roles = tuple(label["roles"])
    if (label["name"], label["federation"]) != (verdict.name, verdict.federation):
        raise RefusedError(
            Refusal.DAMAGED,
            f"kit.json is of {label['name']!a} in {label['federation']!a}, the manifest of "
            f"{verdict.name!a} in {verdict.federation!a}",
        )


def _credentials(verdict: Verdict, files: Mapping[str, bytes], now: float) -> None:
    own = load_credentials(verdict.kit)
    label = label_of(files)
    if not own.identity.did == own.chain[-1].did == label["did"]:
        raise RefusedError(
            Refusal.KEY, "identity.key, chain.cbor and kit.json are of different identities"
        )
    _member(own, verdict)
    registry = own.registry
    operator = registry.chain_of(registry.operator)[-1]
    verdict.ends["identity"] = own.identity.description.not_after
    verdict.ends["the operator's identity"] = operator.not_after
    if registry.revocations is None:
        raise RefusedError(Refusal.STALE, "revocations.cbor is missing")
    verdict.ends["revocation list"] = registry.revocations.not_after
    registry.known(own.did, now)
    operator.check_valid(now)
    _newest(own, verdict.kit.absolute().parent / OFFICE, operator.did)


def _newest(own: Credentials, office: Path, operator: str) -> None:
    """Among the kits lies what the operator signed since, which the kit itself cannot know."""
    if not all((office / name).is_file() for name in ("policy.cbor", "revocations.cbor")):
        return
    policy = Policy.from_bytes(read_private(office / "policy.cbor", POLICY.at_most))
    revoked = RevocationList.from_bytes(read_private(office / "revocations.cbor", LIST.at_most))
    # Another operator's folder says nothing of this kit.
    if policy.issuer == operator:
        own.registry.update(revoked, own.now())
        own.registry.known(own.did, own.now())  # says why it is revoked
        own.registry.enrol(policy, own.now())
        own.registry.known(own.did, own.now())


def _member(own: Credentials, verdict: Verdict) -> None:
    policy, first = own.registry.policy, own.chain[0].did
    member = None if policy is None else policy.by_did.get(first)
    if policy is None or member is None:
        raise RefusedError(Refusal.PERMISSION, f"policy.cbor is missing, or does not name {first}")
    if (policy.federation, member.name, member.roles) != (
        verdict.federation,
        verdict.name,
        verdict.roles,
    ):
        raise RefusedError(
            Refusal.ROLE,
            f"the policy of {policy.federation} names {member.name} as {', '.join(member.roles)}; "
            f"the kit is of {verdict.name!a} as {', '.join(verdict.roles)!a}",
        )


def _tls(verdict: Verdict, files: Mapping[str, bytes], now: float) -> None:
    authority = files.get("tls/ca.crt", b"")
    verdict.ends["certificate authority"] = check_dates(authority, "tls/ca.crt", now)
    if "server" in verdict.roles:
        address = Address.of(label_of(files)["server"])
        verdict.ends["server certificate"] = check_server(
            authority,
            files.get("tls/server.crt", b""),
            files.get("tls/server.key", b""),
            address.host,
            now,
        )


def soon(verdict: Verdict, now: float) -> list[str]:
    """What runs out within :data:`SOON_DAYS`, by name."""
    return [what for what, end in verdict.ends.items() if end - now < SOON_DAYS * DAY]
