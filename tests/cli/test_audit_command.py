"""``qfl audit verify``: what it prints, what it finds, its exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from calls import Call

from qfl.federation.run_folder import RunFolder
from qfl.identity.countersigning import countersign, countersigned


@pytest.fixture
def trail() -> Path:
    """Of a run that was resumed: two segments of three records."""
    for event in ("run_started", "run_resumed"):
        folder = RunFolder(Path("run"))
        folder.path.mkdir(exist_ok=True)
        folder.audit(event, round=0)
        folder.audit("sum_opened", round=1, contributions=10)
    return Path("run", "audit.jsonl")


def head_of(path: Path, line: int = -1) -> str:
    return hashlib.sha256(path.read_bytes().splitlines()[line]).hexdigest()


@pytest.mark.parametrize("arguments", [[], ["-h"], ["verify", "--help"]])
def test_help(call: Call, arguments: list[str]) -> None:
    code, output, errors = call("audit", *arguments)
    assert (code, errors) == (0, "")
    assert "usage: qfl audit verify RUN_DIR [--head DIGEST] [--json]" in output
    assert "audit verify RUN_DIR" in call("--help")[1]


def test_a_trail_that_holds(call: Call, trail: Path) -> None:
    code, output, errors = call("audit", "verify", "run")
    assert (code, errors) == (0, "")
    assert "Records: 6, all hold\nSegments: 2\n  from line 1, " in output
    assert "\n  from line 4, " in output
    assert f"\nHead: {head_of(trail)}\n" in output
    assert "keep the head elsewhere" in output


def test_a_head_that_was_kept(call: Call, trail: Path) -> None:
    code, output, _ = call("audit", "verify", "run", "--head", head_of(trail, 3).upper())
    assert code == 0
    assert "The head given is line 4; lines after it: 2\n" in output
    assert "keep the head elsewhere" not in output
    kept = head_of(trail)
    trail.write_bytes(b"".join(trail.read_bytes().splitlines(keepends=True)[:-1]))
    assert call("audit", "verify", "run")[0] == 0
    code, _, errors = call("audit", "verify", "run", "--head", kept)
    assert code == 6
    assert "audit.jsonl, line 6: no record has the digest that was given: lines at" in errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b":10", b":11"), *lines[3:]],
         "line 3: its signature does not hold: it was changed"),
        (lambda lines: [*lines[:1], *lines[2:]],
         "line 2: it is numbered 3: lines before it were dropped"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]],
         "line 3: it is numbered 2: it was put in, repeated or moved"),
        (lambda lines: [lines[1], lines[0], *lines[2:]],
         "line 1: the trail does not begin with segment_started"),
        (lambda lines: [*lines, b'{"time":"t","event":"sum_opened"}\n'],
         "line 7: it has no 'n': it was changed or put in"),
        (lambda lines: [*lines[:-1], lines[-1][:-30]],
         "line 6: it is torn, as by a crash: its end is missing; if the run crashed, resume="),
        (lambda lines: [*lines, b"garbage\n"], "line 7: it is not JSON"),
        (lambda lines: [], "line 1: the trail is empty"),
    ],
    ids=["changed", "dropped", "repeated", "swapped", "plain", "torn", "garbage", "emptied"],
)  # fmt: skip
def test_the_first_line_that_does_not_hold_is_named(
    call: Call, trail: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    trail.write_bytes(b"".join(change(trail.read_bytes().splitlines(keepends=True))))
    code, output, errors = call("audit", "verify", "run")
    assert code == 6
    assert errors.startswith("qfl: run/audit.jsonl, line ") and words in errors
    assert ", all hold" not in output
    code, output, again = call("audit", "verify", "run", "--json")
    assert (code, again) == (6, errors)
    found = json.loads(output)
    assert found["verified"] is False
    assert f"line {found['flaw']['line']}: {found['flaw']['reason']}" in errors
    assert found["flaw"]["kind"] in errors or found["flaw"]["kind"] in ("damaged", "cut")


def test_json(call: Call, trail: Path) -> None:
    code, output, _ = call("audit", "verify", "run", "--json", "--head", head_of(trail, 0))
    assert code == 0
    found = json.loads(output)
    assert (found["verified"], found["flaw"], found["records"]) == (True, None, 6)
    assert (found["head"], found["known"]) == (head_of(trail), 1)
    assert [segment["line"] for segment in found["segments"]] == [1, 4]


def test_countersignatures_are_told(call: Call) -> None:
    from qfl.crypto.signatures import generate_signing_key

    folder = RunFolder(Path("run"))
    folder.path.mkdir()
    folder.audit("run_started")
    head = folder.trail.head()
    signed = countersign(head, "clinic 1", generate_signing_key())
    folder.audit("countersigned", **countersigned(head, [signed]))
    key = hashlib.sha256(signed.public).hexdigest()
    output = call("audit", "verify", "run")[1]
    assert f"Countersigned up to line 2 by 1:\n  'clinic 1', key {key}\n" in output


def test_plain_lines_of_an_earlier_version(call: Call) -> None:
    Path("run").mkdir()
    Path("run", "audit.jsonl").write_text('{"time": "t", "event": "run_started"}\n' * 2)
    code, output, errors = call("audit", "verify", "run")
    assert (code, output) == (6, "")
    assert "neither chained nor signed, so nothing can be verified" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["verify"], 2, "usage: qfl audit verify"),
        (["verify", "nowhere"], 7, "nowhere is not a folder: give the folder of a run"),
        (["verify", "."], 7, "holds no audit.jsonl"),
        (["verify", ".", "--head", "12"], 2, "--head '12' is no digest: give the 64"),
        (["verify", ".", "--head", "g" * 64], 2, "is no digest"),
        (["very"], 2, "unknown command of qfl audit 'very'; did you mean 'verify'?"),
    ],
)
def test_what_cannot_be_verified(call: Call, arguments: list[str], code: int, words: str) -> None:
    found, _, errors = call("audit", *arguments)
    assert found == code
    assert words in errors


def test_nothing_heavy_is_imported(trail: Path) -> None:
    code = (
        "import sys; from qfl.cli import main; code = main(['audit', 'verify', 'run']); "
        "assert not {'torch', 'flwr', 'tenseal', 'scipy'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
