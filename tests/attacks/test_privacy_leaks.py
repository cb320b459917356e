"""What else could tell of a private client's data: texts, sizes, states, repeated noise."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict
from hostile import CLIENTS, LENGTH
from privacy_server import contributions, ledger_of, open_from, private, promise
from privacy_torch import Client, configured

from qfl.clients import Accounts, ProtectMod, record_level
from qfl.crypto import unpack
from qfl.errors import (
    BudgetSpentError,
    ConfigError,
    DataError,
    OpeningRefusedError,
    PayloadError,
    PrivacyError,
    QflError,
)
from qfl.privacy import ClientLevel, Stream, Terms
from qfl.records import PAYLOAD, record_bytes

SECRET = "patient 4711"
MECHANISMS = ["dpsgd", "central", "distributed", "local"]


def failing(server: Any, fail: Any) -> Any:
    node = server.nodes[1]
    node._app = fail
    return node


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", [ValueError, KeyError, DataError, MemoryError, RuntimeError])
def test_what_goes_wrong_in_an_app_is_not_told(
    mechanism: str, kind: type[Exception], tmp_path: Path
) -> None:
    def fail(message: Message, context: Context) -> Message:
        raise kind(SECRET)

    server = private("hybrid", "key_holder", promise(mechanism), tmp_path, bound=8.0)
    with pytest.raises(PrivacyError, match="its own log says what") as refusal:
        server.train(failing(server, fail))
    assert SECRET not in str(refusal.value)
    assert SECRET in str(refusal.value.__cause__)  # for the log of the client itself


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_app_s_own_error_reply_is_not_told(mechanism: str, tmp_path: Path) -> None:
    def fail(message: Message, context: Context) -> Message:
        return Message(Error(2, SECRET), reply_to=message)

    server = private("hybrid", "key_holder", promise(mechanism), tmp_path, bound=8.0)
    with pytest.raises(PrivacyError, match="its own log says what") as refusal:
        server.train(failing(server, fail))
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("kind", [BudgetSpentError, ConfigError, PayloadError, PrivacyError])
def test_what_is_about_the_server_s_question_is_told(kind: type[QflError], tmp_path: Path) -> None:
    def fail(message: Message, context: Context) -> Message:
        raise kind("lower client.lr")

    server = private("hybrid", "key_holder", promise("dpsgd"), tmp_path)
    with pytest.raises(kind, match=r"lower client\.lr"):
        server.train(failing(server, fail))


def test_data_that_cannot_be_read_for_the_ledger_are_not_told(tmp_path: Path) -> None:
    def name_of(message: Message, context: Context) -> str:
        raise DataError(SECRET)

    server = private("hybrid", "key_holder", promise(), tmp_path)
    accounts = Accounts(str(tmp_path / "ledger.sqlite"), dataset=name_of)
    server.nodes[1].mod._accounts = accounts
    with pytest.raises(PrivacyError) as refusal:
        server.train(server.nodes[1])
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["ckks", "packed", "hybrid"])
@pytest.mark.parametrize("mechanism", ["central", "distributed", "local"])
def test_a_reply_tells_by_nothing_but_its_body(scheme: str, mechanism: str, tmp_path: Path) -> None:
    """No update, a small one, one to be clipped, and one that diverged."""
    server = private(scheme, "key_holder", promise(mechanism), tmp_path, bound=8.0)
    node, seen = server.nodes[1], set()
    for update in (0.0, 0.01, 1e6, np.nan, np.inf, -1e300):
        node.update = np.full(LENGTH, update)
        reply = node.ask(server.step("train", 1), server.model | server.told)
        assert list(reply) == [PAYLOAD]
        header, body = unpack(record_bytes(reply, PAYLOAD))
        seen.add((header, len(body)))
    assert len(seen) == 1


@pytest.mark.parametrize("release", ["server", "clients"])
@pytest.mark.parametrize(
    ("scheme", "trust"),
    [
        ("ckks", "key_holder"),
        ("packed", "shared"),
        ("hybrid", "key_holder"),
        ("hybrid", "committee"),
    ],
)
def test_whoever_adds_noise_keeps_nothing_without_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str, trust: str, release: str, tmp_path: Path
) -> None:
    exact: list[Any] = []
    noised = ClientLevel.noised

    def watched(level: ClientLevel, opened: Any, stream: Stream) -> Any:
        exact.append(opened.astype("<i8"))
        return noised(level, opened, stream)

    monkeypatch.setattr(ClientLevel, "noised", watched)
    server = private(scheme, trust, promise(), tmp_path, release)
    open_from(server, contributions(server))
    (values,) = exact
    kept = (
        b"".join(
            array.data
            for node in server.nodes
            for record in node.state.array_records.values()
            for array in record.values()
        )
        + repr([dict(node.state.config_records) for node in server.nodes]).encode()
    )
    for part in (values.tobytes(), values[:2].tobytes(), repr(values[:2].tobytes())[2:-1].encode()):
        assert part not in kept


def test_nothing_of_an_agreement_is_left_for_the_next_message(tmp_path: Path) -> None:
    """Were it, an app that is asked without terms would believe that somebody adds noise."""
    server = private("ckks", "key_holder", promise(), tmp_path)
    node = server.nodes[1]
    server.train(node)
    assert not {"qfl-agreed", "qfl-paid"} & set(node.state)

    def fail(message: Message, context: Context) -> Message:
        seen.append(dict(context.state.config_records["qfl-agreed"]))
        contexts.append(context)
        raise ValueError

    seen: list[Any] = []
    contexts: list[Context] = []
    with pytest.raises(PrivacyError):
        server.train(failing(server, fail), 2)
    assert seen == [{"mechanism": "central"}]
    assert "qfl-agreed" not in contexts[0].state


def _noise(level: ClientLevel, queue: Any) -> None:
    queue.put(level.encode(np.zeros(level.length), Stream()).tolist())


def test_processes_that_were_forked_draw_noise_of_their_own(tmp_path: Path) -> None:
    """The difference of two clients' contributions would be that of their updates."""
    level = promise("local").level(
        length=64, clients=5, min_clients=3, fraction_bits=14, place="run-1/1/train/0"
    )
    level.encode(np.zeros(64), Stream())  # whatever is kept of it is there when they fork
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    children = [fork.Process(target=_noise, args=(level, queue)) for _ in range(3)]
    for child in children:
        child.start()
    drawn = [tuple(queue.get(timeout=60)) for _ in children]
    for child in children:
        child.join()
    assert len({*drawn, tuple(level.encode(np.zeros(64), Stream()).tolist())}) == 4


def test_a_client_that_was_pickled_pays_into_the_same_ledger(tmp_path: Path) -> None:
    """As workers on other processors do it."""
    server = private("ckks", "key_holder", promise(), tmp_path)
    accounts = Accounts(str(tmp_path / "ledger.sqlite"))
    for i in CLIENTS:
        node = server.nodes[i]
        node.mod = pickle.loads(pickle.dumps(ProtectMod(accounts=accounts)))
        server.train(node)
    assert ledger_of(tmp_path).count == len(CLIENTS)


def test_a_refusal_of_a_second_sum_tells_nothing_of_either(tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise(), tmp_path)
    bodies, said = contributions(server), set()
    open_from(server, bodies)
    for others in (bodies[:3], bodies[1:]):
        with pytest.raises(OpeningRefusedError) as refusal:
            open_from(server, others)
        said.add(str(refusal.value))
    assert len(said) == 1


def test_a_state_that_goes_around_holds_no_ledger_and_no_floor(tmp_path: Path) -> None:
    server = private("ckks", "key_holder", promise(), tmp_path)
    server.train(server.nodes[1])
    state: RecordDict = server.nodes[1].state
    assert "ledger" not in repr(dict(state.config_records))


def test_that_private_training_diverged_is_told_because_noise_tells_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def diverge(*_: Any) -> None:
        raise DataError("private training has diverged: take a smaller client.lr")

    monkeypatch.setattr(record_level, "train_privately", diverge)
    with pytest.raises(PrivacyError, match=r"smaller client\.lr"):
        Client(tmp_path).ask(configured("dpsgd"), Terms("dpsgd", epsilon=4.0))
