"""What a server receives in a run, searched for everything that it must not see.

Secrets are noted as they are made: updates, local models, counts and metrics of single clients;
keys, seeds, shares; where clients alone learn the model, also sums and models. All that reaches the
server is searched for them, replies and texts of errors alike, in every form in which they could
travel. Each kind of leak is also planted once, so that the search is known to find it.

Under ``masking`` the server rebuilds secrets from shares, and may: the seed of the own mask of each
client whose vector is in the sum, and the root of each that dealt shares and then vanished; never
both of one client. So it sees shares of these, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from canaries import Secrets, leaks
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from noting import note_all
from small_federation import Clients

from qfl.clients import ProtectMod
from qfl.crypto import TRUSTS, MemberKeys, Step
from qfl.crypto.masking_opening import Sorter
from qfl.crypto.sealing import seal
from qfl.errors import FederationError
from qfl.strategies import Aggregation, SecureStrategy

# Long enough not to turn up in a random digest by accident.
SIZES = (79_190_317, 61_330_411, 88_610_909, 70_018_613)
LOSSES = (0.714285123, 1.320113377, 0.918273645, 2.236067977)
LENGTH = 40

PAIRS = [(scheme, trust) for scheme, trusts in TRUSTS.items() for trust in trusts]
RUNS = [(*pair, "server") for pair in PAIRS if pair[0] != "plain"]
RUNS += [(*pair, "clients") for pair in PAIRS if pair[1] != "none"]

# What has to have been noted under each scheme, or the search would prove nothing.
MADE = {
    "ckks": {"secret key"},
    "packed": {"secret key"},
    "hybrid": {"ring key", "stream key", "member seed", "sealing seed"},
    "masking": {"masking seed", "masking root", "common mask", "member seed", "sealing seed"},
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    return note_all(monkeypatch)


def update(client: int, round: int) -> np.ndarray:
    return np.random.default_rng((client, round)).normal(0, 0.2, LENGTH)


def clients(secrets: Secrets, clients: int = 4, **options: Any) -> Clients:
    """Clients whose numbers are noted."""
    secrets.numbers["count"] = [float(size) for size in SIZES]
    secrets.numbers["metric"] = [*LOSSES, *(loss**2 for loss in LOSSES)]
    model = np.linspace(-0.9, 0.9, LENGTH)
    for client in range(clients):
        moves = [update(client, round) for round in (1, 2)]
        secrets.vectors.setdefault("update", []).extend(moves)
        secrets.vectors.setdefault("local model", []).append(model + moves[0])
    return Clients(update, SIZES[:clients], LOSSES[:clients], **options)


def strategy(scheme: str, trust: str, release: str = "server", **options: Any) -> SecureStrategy:
    return SecureStrategy(
        Aggregation(scheme, "examples", trust=trust, release=release, grid_bits=14, **options),
        metrics=("loss",),
        evaluate_metrics=("eval_loss",),
    )


@pytest.mark.parametrize(("scheme", "trust", "release"), RUNS)
def test_the_server_sees_nothing_of_a_single_client(
    secrets: Secrets, scheme: str, trust: str, release: str
) -> None:
    received, _ = clients(secrets).run(strategy(scheme, trust, release), 2, LENGTH)
    made = MADE[scheme] | {"update", "count", "metric", "local model"}
    made |= {"lock", "sum", "model"} if release == "clients" else set()
    made |= {"lock"} if trust == "shared" else set()
    made |= {"committee share"} if trust == "committee" else set()
    assert made <= secrets.kinds
    found = leaks(received, secrets)
    if scheme == "masking":  # everybody is in the sum: shares of their own masks' seeds are given
        found = {kind for kind in found if not kind.startswith("seed share")}
    assert found == set()


def test_without_protection_the_search_finds_the_update(secrets: Secrets) -> None:
    received, _ = clients(secrets).run(strategy("plain", "none"), 1, LENGTH)
    assert leaks(received, secrets) >= {"update", "count"}


def test_where_the_server_learns_the_model_the_search_finds_sum_and_model(
    secrets: Secrets,
) -> None:
    """The same secrets as under release ``clients``, looked for in the messages of ``server``."""
    clients(secrets).run(strategy("ckks", "key_holder", "clients"), 2, LENGTH)
    received, _ = clients(secrets).run(strategy("ckks", "key_holder"), 2, LENGTH)
    assert leaks(received, secrets) == {"sum"}


@pytest.mark.parametrize("gone", ["train", "agree", "reveal", ""])
def test_under_masks_the_server_rebuilds_one_secret_of_each_client_and_no_other(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Whoever vanishes before its masked vector is out of the sum, and in it afterwards."""
    rebuilt: dict[str, bytes] = {}
    rebuild = Sorter.rebuild

    def noted(self: Any, about: int, name: str, *args: Any) -> bytes:
        rebuilt[name] = rebuild(self, about, name, *args)
        return rebuilt[name]

    monkeypatch.setattr(Sorter, "rebuild", noted)

    class Vanishing(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            step = Step.from_json(str(message.content.config_records["qfl"]["step"]))
            if context.node_id == 3 and step.step == gone and step.label == "train":
                vanished.append(MemberKeys(context.state["qfl-member"]["seed"]).name)  # type: ignore[arg-type,call-overload]
                raise ConnectionError("gone")
            return super().__call__(message, context, call_next)

    vanished: list[str] = []
    made = Aggregation("masking", grid_bits=14)
    four = clients(secrets, mods=[Vanishing()])
    received, final = four.run(SecureStrategy(made), 1, LENGTH)
    out = set(vanished) if gone == "train" else set()
    seeds, roots = secrets.keys["masking seed"], secrets.keys["masking root"]
    assert len(rebuilt) == 4 and bool(vanished) == bool(gone)
    for name, secret in rebuilt.items():
        assert (secret in roots, secret in seeds) == (name in out, name not in out)
    # All shares of one kind that were revealed, none of the other, and no secret as it is.
    kinds = {"root share" if name in out else "seed share": name for name in rebuilt}
    allowed = {f"{'root' if n in out else 'seed'} share of {n}" for n in rebuilt}
    assert kinds and leaks(received, secrets) == allowed
    there = [0, 1, 3] if out else [0, 1, 2, 3]
    mean = np.mean([update(client, 1) for client in there], axis=0)
    np.testing.assert_allclose(final, np.linspace(-0.9, 0.9, LENGTH) + mean, rtol=0, atol=2e-4)


# Leaks, planted: each kind once.

Plant = Callable[[Message, Context, Secrets], None]


def blob(data: bytes) -> ConfigRecord:
    return ConfigRecord({"blob": b"some head" + data})


def as_array(form: str) -> Plant:
    def plant(reply: Message, context: Context, secrets: Secrets) -> None:
        reply.content["extra"] = ArrayRecord({"w": Array(update(0, 1).astype(form))})

    return plant


def as_steps(form: str) -> Plant:
    def plant(reply: Message, context: Context, secrets: Secrets) -> None:
        some = secrets.vectors["update"][-2][11:15]  # in grid steps; the last one is in units
        reply.content["extra"] = blob(some.astype(form).tobytes())

    return plant


def in_text(reply: Message, context: Context, secrets: Secrets) -> None:
    largest = float(np.abs(update(0, 1)).max())
    reply.content["extra"] = ConfigRecord({"log": f"largest coordinate {largest:.6g}"})


def local_model(reply: Message, context: Context, secrets: Secrets) -> None:
    some = secrets.vectors["local model"][2][5:9]
    reply.content["extra"] = blob(some.astype("<f4").tobytes())


def count_in_metrics(reply: Message, context: Context, secrets: Secrets) -> None:
    reply.content["extra"] = MetricRecord({"num-examples": SIZES[0]})


def count_in_text(reply: Message, context: Context, secrets: Secrets) -> None:
    reply.content["extra"] = ConfigRecord({"log": f"trained on {SIZES[1]} examples"})


def count_in_bytes(reply: Message, context: Context, secrets: Secrets) -> None:
    reply.content["extra"] = blob(np.array([SIZES[2]], "<i8").tobytes())


def metric(reply: Message, context: Context, secrets: Secrets) -> None:
    reply.content["extra"] = MetricRecord({"losses": [LOSSES[3], 1.0]})


def piece_of(kind: str, size: int = 24) -> Plant:
    def plant(reply: Message, context: Context, secrets: Secrets) -> None:
        whole = secrets.keys[kind][-1]
        reply.content["extra"] = blob(whole[len(whole) // 2 :][:size])

    return plant


def in_hex(reply: Message, context: Context, secrets: Secrets) -> None:
    seed = secrets.keys["member seed"][0]
    reply.content["extra"] = ConfigRecord({"name": seed[:32].hex()})


def ring_key(form: str) -> Plant:
    def plant(reply: Message, context: Context, secrets: Secrets) -> None:
        reply.content["extra"] = blob(secrets.small["ring key"][-1][100:164].astype(form).tobytes())

    return plant


@pytest.mark.parametrize(
    ("run", "plant", "kind"),
    [
        *((("ckks", "key_holder"), as_array(form), "update") for form in ("<f8", "<f4")),
        *((("packed", "shared"), as_steps(form), "update") for form in ("<f8", "<i8", "<i4")),
        (("ckks", "key_holder"), in_text, "update"),
        (("hybrid", "committee"), local_model, "local model"),
        (("ckks", "key_holder"), count_in_metrics, "count"),
        (("masking", "none"), count_in_text, "count"),
        (("hybrid", "shared"), count_in_bytes, "count"),
        (("packed", "key_holder"), metric, "metric"),
        (("ckks", "key_holder"), piece_of("secret key", 300), "secret key"),
        (("packed", "shared"), piece_of("secret key"), "secret key"),
        (("hybrid", "key_holder"), piece_of("secret key"), "secret key"),
        (("hybrid", "key_holder"), in_hex, "member seed"),
        (("hybrid", "committee"), piece_of("member seed"), "member seed"),
        (("hybrid", "shared"), ring_key("<i1"), "ring key"),
        (("hybrid", "key_holder"), ring_key("<i8"), "ring key"),
        (("hybrid", "committee"), ring_key("<f4"), "ring key"),
        (("hybrid", "committee"), piece_of("stream key"), "stream key"),
        (("hybrid", "committee"), piece_of("committee share"), "committee share"),
        (("masking", "none"), piece_of("masking root"), "masking root"),
        (("masking", "none"), piece_of("masking seed"), "masking seed"),
        (("masking", "none"), piece_of("common mask"), "common mask"),
        (("ckks", "key_holder", "clients"), piece_of("lock"), "lock"),
    ],
)
def test_the_search_finds_a_planted_leak(
    secrets: Secrets, run: tuple[str, ...], plant: Plant, kind: str
) -> None:
    class Leaky(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            asked = Step.from_json(str(message.content.config_records["qfl"]["step"])).step
            reply = super().__call__(message, context, call_next)
            if context.node_id == 4 and asked == "train":
                plant(reply, context, secrets)
            return reply

    received, _ = clients(secrets, mods=[Leaky()]).run(strategy(*run), 1, LENGTH)
    found = {kind for kind in leaks(received, secrets) if not kind.startswith("seed share")}
    # Half of a member's seed, a root, and a key of hybrid are seeds of sealing keys.
    assert kind in found and found <= {kind, "sealing seed"}


@pytest.mark.parametrize(
    ("scheme", "trust", "module", "kind"),
    [
        ("hybrid", "key_holder", "hybrid_keys", "ring key"),
        ("hybrid", "committee", "members", "committee share"),
        ("masking", "none", "members", "root share of "),
        ("masking", "none", "masking_package", "common mask"),
    ],
)
def test_the_search_finds_what_was_left_unsealed(
    secrets: Secrets,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    trust: str,
    module: str,
    kind: str,
) -> None:
    """The same run, in which sealing does not seal."""

    def unsealed(plain: bytes, public: bytes, info: bytes) -> bytes:
        return plain + seal(b"", public, info)

    monkeypatch.setattr(f"qfl.crypto.{module}.seal", unsealed)
    four = clients(secrets)
    with pytest.raises(FederationError):
        four.run(strategy(scheme, trust), 1, LENGTH)
    assert any(found.startswith(kind) for found in leaks(four.received, secrets))


def test_an_error_s_text_is_searched_too(secrets: Secrets) -> None:
    class Careless(ProtectMod):
        def __call__(self, message: Message, context: Context, call_next: Any) -> Message:
            asked = Step.from_json(str(message.content.config_records["qfl"]["step"])).step
            if context.node_id == 4 and asked == "train":
                raise ValueError(f"batch of {SIZES[3]} rows")
            return super().__call__(message, context, call_next)

    received, _ = clients(secrets, mods=[Careless()]).run(strategy("ckks", "shared"), 1, LENGTH)
    assert leaks(received, secrets) == {"count"}
