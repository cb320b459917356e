"""Trust ``committee``: members that fail, hang or lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message

from qfl.clients import ProtectMod
from qfl.clients.keys import member_keys
from qfl.crypto import Committee, Step
from qfl.errors import ConfigError, FederationError
from qfl.records import KEY, PAYLOAD, bytes_record, record_bytes
from qfl.strategies import Aggregation, SecureStrategy

OFF = 1e-5
FAR_S = 20.0
SIZES = (10, 20, 30, 40, 50)

Act = Callable[[Message], None]
Change = Callable[[bytes], bytes]


class Failing(ProtectMod):
    """A mod that does something else at some steps, on some nodes."""

    def __init__(self, nodes: dict[str, tuple[int, ...]], act: Act) -> None:
        super().__init__()
        self._nodes, self._act = nodes, act

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        step = Step.from_json(str(message.content.config_records["qfl"]["step"])).step
        if context.node_id in self._nodes.get(step, ()):
            self._act(message)
        return super().__call__(message, context, call_next)


class Lying(ProtectMod):
    """The committee's first members lie at one step: one of them, or as many as said."""

    def __init__(self, step: str, change: Change, liars: int = 1) -> None:
        super().__init__()
        self._step, self._change, self._liars = step, change, liars

    def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
        step = Step.from_json(str(message.content.config_records["qfl"]["step"]))
        reply = super().__call__(message, context, call_next)
        if step.step == self._step and place_in(step, context) < self._liars:
            data = self._change(record_bytes(reply.content, PAYLOAD))
            reply.content[PAYLOAD] = bytes_record(data, "lie")
        return reply


def place_in(step: Step, context: Context) -> int:
    committee = Committee.from_bytes(record_bytes(context.state, KEY))
    return committee.names.index(member_keys(step, context).name)


def gone(message: Message) -> None:
    raise ConnectionError("the network is down")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def strategy(**options: Any) -> SecureStrategy:
    return SecureStrategy(Aggregation("hybrid", trust="committee", **options))


def check(toy: Any, ran: Any, rounds: int = 1) -> None:
    """Everybody's update is in the model: members that fail to open have contributed before."""
    model = toy.initial["weight"]
    for _ in range(rounds):
        model = model + toy.mean(model, [1] * toy.nodes)
    np.testing.assert_allclose(ran.final, model.ravel(), rtol=0, atol=OFF)


@pytest.mark.parametrize("node", [1, 2, 3])
@pytest.mark.parametrize("step", ["agree", "open"])
def test_two_of_three_open(
    run: Callable[..., Any], make_toy: Callable[..., Any], step: str, node: int
) -> None:
    toy = make_toy(SIZES, mods=[Failing({step: (node,)}, gone)])
    check(toy, run(toy, strategy(), rounds=2), 2)


def test_one_fails_to_agree_and_none_to_open(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(SIZES, mods=[Failing({"agree": (1,), "open": (1,)}, gone)])
    check(toy, run(toy, strategy()))


@pytest.mark.parametrize("step", ["agree", "open"])
@pytest.mark.parametrize(("nodes", "left"), [((1, 3), 1), ((1, 2, 3), 0)])
def test_fewer_than_the_threshold_open_nothing(
    run: Callable[..., Any],
    make_toy: Callable[..., Any],
    step: str,
    nodes: tuple[int, ...],
    left: int,
) -> None:
    toy = make_toy(SIZES, mods=[Failing({step: nodes}, gone)])
    with pytest.raises(
        FederationError,
        match=rf"^round 1, train: {left} of 3 committee members answered, at least 2 must; "
        r"member \d refused: the network is down$",
    ):
        run(toy, strategy())


def test_different_members_fail_at_the_two_steps(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    """Who has not agreed is not asked for shares: two agreed, one of them is left."""
    toy = make_toy(SIZES, mods=[Failing({"agree": (1,), "open": (2,)}, gone)])
    with pytest.raises(
        FederationError, match="1 of 2 committee members answered, at least 2 must; member 2 refu"
    ):
        run(toy, strategy())


@pytest.mark.parametrize("committee", [(3, 3), (5, 3)])
def test_other_committees(
    run: Callable[..., Any], make_toy: Callable[..., Any], committee: tuple[int, int]
) -> None:
    members, threshold = committee
    spare = tuple(range(1, members - threshold + 1))
    options = {"committee": members, "threshold": threshold}
    toy = make_toy(SIZES, mods=[Failing({"open": spare}, gone)])
    check(toy, run(toy, strategy(**options)))
    one_more = tuple(range(1, members - threshold + 2))
    toy = make_toy(SIZES, mods=[Failing({"open": one_more}, gone)])
    with pytest.raises(
        FederationError, match=rf"{threshold - 1} of {members} committee members answered"
    ):
        run(toy, strategy(**options))


@pytest.mark.parametrize("step", ["agree", "open"])
def test_a_member_that_hangs_is_not_waited_for(
    run: Callable[..., Any], make_toy: Callable[..., Any], gate: threading.Event, step: str
) -> None:
    def hang(message: Message) -> None:
        gate.wait(FAR_S)

    toy = make_toy(SIZES, mods=[Failing({step: (2,)}, hang)])
    check(toy, run(toy, strategy(), workers=5, timeout=1.0))


def test_members_that_never_answer_are_named(
    run: Callable[..., Any], make_toy: Callable[..., Any], gate: threading.Event
) -> None:
    def hang(message: Message) -> None:
        gate.wait(FAR_S)

    toy = make_toy(SIZES, mods=[Failing({"agree": (1, 2)}, hang)])
    with pytest.raises(FederationError, match="1 of 3 committee members answered, at least 2 must"):
        run(toy, strategy(), workers=5, timeout=1.0)


def test_more_members_than_nodes(run: Callable[..., Any], make_toy: Callable[..., Any]) -> None:
    with pytest.raises(
        FederationError, match="a committee of 7 was asked for; only 5 nodes answered"
    ):
        run(make_toy(SIZES), strategy(committee=7, threshold=4))


@pytest.mark.parametrize("threshold", [1, 4])
def test_a_threshold_that_is_none(threshold: int) -> None:
    with pytest.raises(ConfigError, match=f"threshold={threshold} of committee=3 is not allowed"):
        strategy(committee=3, threshold=threshold)


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def cut(data: bytes) -> bytes:
    return data[:-1]


@pytest.mark.parametrize("change", [flipped, cut])
def test_a_signature_that_is_none_leaves_its_member_out(
    run: Callable[..., Any], make_toy: Callable[..., Any], change: Change
) -> None:
    """Two good members are enough; a third must not be able to stop them."""
    toy = make_toy(SIZES, mods=[Lying("agree", change)])
    check(toy, run(toy, strategy()))


def test_a_share_that_is_none_leaves_its_member_out(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(SIZES, mods=[Lying("open", cut)])
    check(toy, run(toy, strategy()))


def test_a_wrong_share_is_left_aside(run: Callable[..., Any], make_toy: Callable[..., Any]) -> None:
    """The key that comes out with it does not fit the masked sum; that of the others does."""
    honest = run(make_toy(SIZES), strategy())
    ran = run(make_toy(SIZES, mods=[Lying("open", flipped)]), strategy())
    assert ran.final.tobytes() == honest.final.tobytes()


def test_without_enough_right_shares_nothing_is_opened(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    toy = make_toy(SIZES, mods=[Lying("open", flipped, liars=2)])
    with pytest.raises(
        FederationError,
        match="round 1, train: the committee's shares do not open the sum: the opened key ",
    ):
        run(toy, strategy())


# Release ``clients``: the first member by name keeps the model.


def test_a_kept_model_goes_on_without_one_of_the_others(
    run: Callable[..., Any], make_toy: Callable[..., Any]
) -> None:
    for node in (1, 2, 3):
        toy = make_toy(SIZES, mods=[Failing({"open": (node,)}, gone)])
        ran = run(
            toy,
            SecureStrategy(
                Aggregation("hybrid", trust="committee", release="clients"), metrics=("loss",)
            ),
            rounds=2,
        )
        assert ran.rounds[-1].metrics["loss"] == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize("step", ["keygen", "adopt", "combine"])
def test_a_keeper_that_fails_ends_the_run(
    run: Callable[..., Any], make_toy: Callable[..., Any], step: str
) -> None:
    toy = make_toy(SIZES, mods=[Failing({step: (1, 2, 3)}, gone)])
    with pytest.raises(FederationError, match=r"key holder [123] refused: the network is down"):
        run(toy, strategy(release="clients"))


@pytest.mark.parametrize("change", [flipped, cut])
def test_a_sealed_share_that_is_damaged_is_refused_by_the_keeper(
    run: Callable[..., Any], make_toy: Callable[..., Any], change: Change
) -> None:
    toy = make_toy(SIZES, mods=[Lying("open", change)])
    with pytest.raises(FederationError, match=r"key holder [123] refused: a sealed message cannot"):
        run(toy, strategy(release="clients"))
