"""A registry under load: threads that read and change it at the same time, and many members."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import SupportsIndex, overload

import pytest

from qfl.identity.description import Description
from qfl.identity.identity import Identity
from qfl.identity.policy import Enrolled, sign_policy
from qfl.identity.refusal import RefusedError
from qfl.identity.registry import Registry
from qfl.identity.revocation import revoke

NOW = 1_800_000_000
OPERATOR = Identity.create(["operator"], now=NOW)
NODES = [Identity.create(["client"], now=NOW) for _ in range(24)]
LETTERS = str.maketrans("0123456789", "abcdefghij")


def registry() -> Registry:
    made = Registry({OPERATOR.did: ["operator"]}, operator=OPERATOR.did)
    made.admit([OPERATOR.description])
    made.update(revoke(OPERATOR, None, now=NOW), NOW)
    return made


def member(number: int) -> Enrolled:
    return Enrolled(f"clinic-{number}", NODES[number].did, ("client",))


@pytest.fixture
def eager_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_who_stays_is_always_known_and_who_goes_is_refused_by_name() -> None:
    made, last, news = registry(), None, []
    for turn in range(60):
        members = [member(0), *([member(1)] if turn % 2 else [])]
        last = sign_policy(OPERATOR, "clinics", members, before=last, now=NOW)
        news.append(last)
    made.enrol(news[0], NOW)
    made.admit([NODES[0].description])
    done, wrong, reads = threading.Event(), list[str](), [0, 0, 0]

    def read(which: int) -> None:
        while not done.is_set() and not wrong:
            try:
                made.permit(NODES[0].did, "train", NOW)
                made.check_role(NODES[0].did, "client")
                assert made.find(NODES[0].did) == NODES[0].description
            except Exception as error:
                wrong.append(repr(error))
            try:
                made.permit(NODES[1].did, "train", NOW)
            except RefusedError:
                reads[which] += 1
            except Exception as error:
                wrong.append(repr(error))

    readers = [threading.Thread(target=read, args=(which,)) for which in range(3)]
    for one in readers:
        one.start()
    try:
        while not all(reads) and not wrong:
            time.sleep(0.001)
        for fresh in news[1:]:
            made.enrol(fresh, NOW)
            if len(fresh.members) == 2:
                made.admit([NODES[1].description])
    finally:
        done.set()
        for one in readers:
            one.join()
    assert wrong == [] and made.policy == news[-1]


class Slow(list[Description]):
    """A chain that takes its time, so that others would come in between."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> Description: ...
    @overload
    def __getitem__(self, at: slice) -> list[Description]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Description | list[Description]:
        time.sleep(0.002)
        return super().__getitem__(at)


def test_no_description_is_lost_where_several_threads_admit() -> None:
    made = Registry({one.did: ["client"] for one in NODES})
    start = threading.Barrier(6)

    def admit(some: list[Identity]) -> None:
        start.wait()
        for one in some:
            made.admit(Slow([one.description]))

    writers = [threading.Thread(target=admit, args=(NODES[at::6],)) for at in range(6)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [made.known(one.did, NOW).did for one in NODES] == [one.did for one in NODES]


def test_a_thousand_members_are_enrolled_and_permitted_in_no_time() -> None:
    fillers = [
        Enrolled(f"filler-{n}", "did:qfl:" + f"{n:051d}".translate(LETTERS) + "a", ("client",))
        for n in range(1000 - len(NODES))
    ]
    members = [*fillers, *(member(number) for number in range(len(NODES)))]
    fresh = sign_policy(OPERATOR, "clinics", members, now=NOW)
    made = registry()
    started = time.process_time()
    made.enrol(fresh, NOW)
    for one in NODES:
        made.admit([one.description])
    for turn in range(1000):
        made.permit(NODES[turn % len(NODES)].did, "train", NOW)
    assert time.process_time() - started < 2
