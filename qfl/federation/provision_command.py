"""``qfl provision``: what a federation's participants start with."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from qfl.errors import ConfigError, PayloadError, StorageError, unknown_name

if TYPE_CHECKING:
    from qfl.federation.provision_change import Changed, Keys
    from qfl.federation.provision_check import Verdict

USAGE = """\
usage: qfl provision FEDERATION.yaml -o KITS
       qfl provision add KITS NAME --role ROLE [--role ROLE]
       qfl provision revoke KITS NAME --reason compromised|left|lost|replaced
       qfl provision rotate KITS NAME
       qfl provision check KIT [--operator DID] [--json]
       qfl provision unpack FILE.kit -o DIR --passphrase-file FILE

The first makes a folder with the operator's own folder and a kit for each member: keys,
certificates, and what the operator signed. Whoever has a kit acts as its member: hand each one
over so that nobody else reads it.

add      Another member and its kit. Other kits stay as they are, but the server's: it brings the
         others the new policy.
revoke   Leave a member out of the policy, and revoke its keys.
rotate   New keys for a member, which the old ones vouch for, while those are good.
check    Whether a kit is unchanged, belongs together and is good still; if not, the exit code is 6.
unpack   Open a sealed kit.

  -o, --output            folder to make; it must not be there, or be empty
  --role                  client, key_holder, or server where the last one was revoked
  --passphrase-file FILE  the operator's folder is under this passphrase (for unpack: the kit)
  --encrypt FILE          instead of a folder, a kit is a file NAME.kit sealed under this passphrase
  --operator DID          the operator's identifier, from elsewhere: the kit must be of this one
  --json                  print JSON

A passphrase file has mode 0600 and one line of at least 12 characters.
"""

_MOST_TEXT = 1 << 22
_MOST_PASSPHRASE = 4096


def run_provision(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: The command line or the federation file cannot be understood.
        StorageError: A folder or file cannot be read or written.
        CryptoError: A kit is not as it was made, or a passphrase is wrong.
    """
    given = list(arguments)
    if not given or given[0] == "help" or {"-h", "--help"} & set(given):
        print(USAGE, end="")
        return
    commands = {
        "add": _add,
        "revoke": _revoke,
        "rotate": _rotate,
        "check": _check,
        "unpack": _unpack,
    }
    if given[0] in commands:
        commands[given[0]](given[1:])
    else:
        first = Path(given[0])
        if not first.suffix and not first.exists() and not given[0].startswith("-"):
            raise ConfigError(unknown_name("command or file of qfl provision", given[0], commands))
        _provision(given)


def _provision(rest: Sequence[str]) -> None:
    parser = _parser("")
    parser.add_argument("plan", type=Path, metavar="FEDERATION.yaml")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="KITS")
    options = _with_keys(parser).parse_args(rest)
    from qfl.federation.provision import provision
    from qfl.federation.provision_plan import read_plan

    plan, keys = read_plan(_text(options.plan)), _keys(options)
    office = provision(plan, options.output, passphrase=keys.passphrase, encrypt=keys.encrypt)
    print(f"Federation {plan.federation}, server {plan.server}")
    ending = "" if keys.encrypt is None else ".kit"
    for name, roles in plan.members.items():
        print(f"  {options.output / (name + ending)}: {', '.join(roles)}")
    print(f"Operator: {office.operator.did}")
    print(
        f"Hand each kit to its member alone, and tell everybody the operator's identifier in "
        f"another way. {options.output / 'operator'} stays with you."
    )


def _add(rest: Sequence[str]) -> None:
    parser = _member_parser("add")
    parser.add_argument("--role", action="append", required=True)
    options = _with_keys(parser).parse_args(rest)
    from qfl.federation.provision_change import add_member

    _tell(options.kits, add_member(options.kits, options.name, options.role, _keys(options)))


def _revoke(rest: Sequence[str]) -> None:
    parser = _member_parser("revoke")
    parser.add_argument("--reason", required=True)
    options = _with_keys(parser).parse_args(rest)
    from qfl.federation.provision_change import revoke_member

    _tell(options.kits, revoke_member(options.kits, options.name, options.reason, _keys(options)))


def _rotate(rest: Sequence[str]) -> None:
    options = _with_keys(_member_parser("rotate")).parse_args(rest)
    from qfl.federation.provision_change import rotate_member

    _tell(options.kits, rotate_member(options.kits, options.name, _keys(options)))


def _check(rest: Sequence[str]) -> None:
    parser = _parser("check")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--operator", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(rest)
    from qfl.federation.provision_check import check_kit

    verdict = check_kit(options.kit, operator=options.operator)
    if options.json:
        found = {**asdict(verdict), "kit": str(verdict.kit), "holds": not verdict.findings}
        print(json.dumps(found))
    else:
        for line in _lines(verdict, operator_given=bool(options.operator)):
            print(line)
    if verdict.findings:
        raise PayloadError(f"{options.kit} must not be used: {len(verdict.findings)} found")


def _unpack(rest: Sequence[str]) -> None:
    parser = _parser("unpack")
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--passphrase-file", type=Path, required=True)
    options = parser.parse_args(rest)
    from qfl.federation.provision_kit import unpack

    unpack(options.file, options.output, _passphrase(options.passphrase_file))
    print(f"{options.output}; qfl provision check {options.output} tells whether it holds")


def _lines(verdict: Verdict, *, operator_given: bool) -> list[str]:
    from qfl.federation.provision_check import soon
    from qfl.identity.description import moment

    said = [f"{verdict.kit}"]
    if verdict.name:
        roles = ", ".join(verdict.roles)
        said.append(f"Kit of {verdict.name} ({roles}) in federation {verdict.federation}")
    for one in verdict.findings:
        said += [f"WRONG: {one.what}", f"  {one.mend}"]
    if verdict.findings:
        return said
    ending = soon(verdict, time.time())
    for what, end in verdict.ends.items():
        said.append(f"  good until {moment(end)}: {what}{' - SOON' if what in ending else ''}")
    if ending:
        said.append("Ask the operator for qfl provision rotate before then.")
    said.append(f"Operator: {verdict.operator}")
    if not operator_given:
        said.append(
            "Whether this is the right operator the kit cannot tell: compare the identifier with "
            "one that came another way, or give it with --operator."
        )
    said.append("All holds.")
    return said


def _tell(kits: Path, changed: Changed) -> None:
    for name, paths in groupby(map(Path, changed.written), lambda path: path.parts[0]):
        inside = [path.relative_to(name).as_posix() for path in paths]
        whole = "kit.json" in inside or inside == ["."]
        print(f"{kits / name}: {'the whole kit' if whole else ', '.join(inside)}")
    for permission in changed.dropped:
        to = changed.office.policy.permissions[permission]
        print(f"Permission {permission} was granted by name; left: {', '.join(to) or 'nobody'}")
    print(
        f"Policy {changed.office.policy.sequence}, revocations {changed.office.state.revocations}"
    )
    for name in changed.office.state.servers:
        print(f"Bring {name}'s kit to the server: once loaded there, it is told to the others.")


def _parser(name: str) -> argparse.ArgumentParser:
    prog = f"qfl provision {name}".strip()
    return argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)


def _member_parser(name: str) -> argparse.ArgumentParser:
    parser = _parser(name)
    parser.add_argument("kits", type=Path)
    parser.add_argument("name")
    return parser


def _with_keys(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--encrypt", type=Path)
    return parser


def _keys(options: argparse.Namespace) -> Keys:
    from qfl.federation.provision_change import Keys

    own, kits = options.passphrase_file, options.encrypt
    return Keys(own and _passphrase(own), kits and _passphrase(kits))


def _passphrase(path: Path) -> str:
    from qfl.identity.key_file import LEAST_PASSPHRASE
    from qfl.identity.private_file import read_private

    try:
        text = read_private(path, _MOST_PASSPHRASE).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8, so it holds no passphrase") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if "\n" in line or len(line) < LEAST_PASSPHRASE:
        raise ConfigError(
            f"{path} must hold one line, of at least {LEAST_PASSPHRASE} characters: a passphrase"
        )
    return line


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_TEXT + 1)
        if len(data) > _MOST_TEXT:
            raise ConfigError(f"{path} has more than {_MOST_TEXT} bytes")
        return data.decode()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
