"""A Flower ClientApp that trains a torch model on a client's own data.

What to train arrives as configuration: names and values, checked by the schemas. Nothing in it is
imported or instantiated. The app answers plain Flower messages, so that stock strategies work with
it; protection is the mod's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qfl.clients import local_data
from qfl.clients.accounts import Accounts
from qfl.clients.private_answer import agreed_on
from qfl.clients.protect import ProtectMod
from qfl.clients.record_level import Spending, train_and_account
from qfl.clients.sensitivity import sensitivities
from qfl.clients.training import evaluate, train
from qfl.conf.checks import from_dict
from qfl.conf.schema import ExperimentConfig
from qfl.crypto import Layout
from qfl.data import Examples, Moments, Statistics
from qfl.errors import PayloadError
from qfl.models import build_model
from qfl.privacy import CLIENT_LEVEL
from qfl.records import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES, arrays_of

CONFIG_KEY = "qfl-config"
MOMENTS_KEY = "qfl-moments"

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def make_client_app(mods: list[Mod] | None = None, accounts: Accounts | None = None) -> ClientApp:
    """The torch client.

    Args:
        mods: Mods around it; unset, one :class:`ProtectMod` with the same accounts.
        accounts: Floor and ledger of its own training under differential privacy.

    Returns:
        An app with ``train``, ``evaluate``, ``query.count``, ``query.moments`` and
        ``query.sensitivity``.
    """
    accounts = accounts or Accounts()
    app = ClientApp(mods=[ProtectMod(accounts=accounts)] if mods is None else mods)

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        _refuse_unkept(_config(message).privacy.mechanism, accounts, context)
        config, examples = _prepared(message, context)
        model = _model(config, message)
        round_number = int(_config_value(message, "server-round", 0))
        seed = (config.seed, round_number, _index(context))
        # Under differential privacy neither number nor loss leaves: one client counts as another.
        metrics = MetricRecord({NUM_EXAMPLES: 1})
        if config.privacy.mechanism == "dpsgd":
            spending = Spending(accounts, message, context, round_number)
            train_and_account(model, examples, config, spending)
        else:
            loss = train(model, examples, config.client, config.dataset.task, seed)
            if config.privacy.mechanism == "none":
                metrics = MetricRecord({NUM_EXAMPLES: len(examples), "train_loss": loss})
        arrays = ArrayRecord(model.state_dict())
        return Message(RecordDict({ARRAYS: arrays, METRICS: metrics}), reply_to=message)

    @app.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        _refuse_under_privacy(message, "metrics", accounts)
        config, examples = _prepared(message, context)
        model = _model(config, message)
        found = evaluate(model, examples, config.dataset.task, 4 * config.client.batch_size)
        metrics: dict[str, int | float | list[int] | list[float]] = {
            NUM_EXAMPLES: len(examples),
            "eval_loss": found.loss,
        }
        if config.dataset.task == "classification":
            right = found.predictions == examples.y
            metrics["eval_accuracy"] = float(np.mean(right)) if len(examples) else 0.0
        return Message(RecordDict({METRICS: MetricRecord(metrics)}), reply_to=message)

    @app.query("count")
    def _count(message: Message, context: Context) -> Message:
        _refuse_under_privacy(message, "count", accounts)
        config = _config(message)
        return _numbers(message, "count", np.array([float(len(_own(config, context)))]))

    @app.query("moments")
    def _moments(message: Message, context: Context) -> Message:
        _refuse_under_privacy(message, "moments", accounts)
        config = _config(message)
        summed = local_data.own_moments(config, _own(config, context))
        return _numbers(message, "moments", summed.to_vector())

    @app.query("sensitivity")
    def _sensitivity(message: Message, context: Context) -> Message:
        _refuse_under_privacy(message, "sensitivity", accounts)
        config, examples = _prepared(message, context)
        found = sensitivities(_model(config, message), examples, config.dataset.task)
        # As many numbers as there are coordinates: of what is summed, in the same order.
        layout = Layout.of(arrays_of(message.content.array_records[ARRAYS]))
        return _numbers(message, "sensitivity", layout.flatten(found))

    return app


def _numbers(message: Message, name: str, values: np.ndarray) -> Message:
    record = ArrayRecord({name: Array(values)})
    return Message(RecordDict({name: record}), reply_to=message)


def dataset_digest(message: Message, context: Context) -> str:
    """Names a client's own data, so that a ledger knows them again.

    For a ledger that many clients share, as in a simulation. Whoever writes the configuration says
    how data are read and split, and with another seed the same records make another data set: where
    that is somebody else, name the data yourself, or leave them one data set.
    """
    examples = _own(_config(message), context)
    digest = hashlib.sha256()
    for array in (examples.x, examples.y):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _refuse_unkept(mechanism: str, accounts: Accounts, context: Context) -> None:
    """Refuse to train without noise where the configuration promises that somebody adds it."""
    if mechanism == "none" and accounts.floor is not None:
        accounts.floor.check(None, 0)
    if mechanism in CLIENT_LEVEL and (agreed := agreed_on(context)) != mechanism:
        raise PayloadError(
            f"the server's configuration has privacy={mechanism} and its terms privacy={agreed}: "
            "nobody would add the noise; it takes qfl's strategy at the server and ProtectMod here"
        )


def _refuse_under_privacy(message: Message, what: str, accounts: Accounts) -> None:
    if accounts.floor is not None:
        accounts.floor.check(None, 0)
    if (mechanism := _config(message).privacy.mechanism) != "none":
        raise PayloadError(
            f"the server asks for {what} under privacy={mechanism}: nothing but a private update "
            "leaves this client"
        )


def _index(context: Context) -> int:
    found = context.node_config.get("partition-id")
    if not isinstance(found, int) or found < 0:
        raise PayloadError(
            f"this node's configuration has partition-id={found!r}; it must be a whole number >= 0 "
            "that says which client's data it holds"
        )
    return found


def _config_value(message: Message, key: str, default: Any) -> Any:
    record = message.content.config_records.get(CONFIG)
    return default if record is None else record.get(key, default)


def _config(message: Message) -> ExperimentConfig:
    text = _config_value(message, CONFIG_KEY, None)
    if not isinstance(text, str):
        raise PayloadError(
            f"the message holds no '{CONFIG_KEY}': pass it in the strategy's train_config and "
            "evaluate_config"
        )
    return _parse(text)


@lru_cache(maxsize=8)
def _parse(text: str) -> ExperimentConfig:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise PayloadError(f"'{CONFIG_KEY}' is not JSON") from None
    return from_dict(data)


def _own(config: ExperimentConfig, context: Context) -> Examples:
    _, parts = local_data.load_parts(config)
    if _index(context) >= len(parts):
        raise PayloadError(
            f"this node is partition {_index(context)}; the configuration has {len(parts)} clients"
        )
    return parts[_index(context)]


def _prepared(message: Message, context: Context) -> tuple[ExperimentConfig, Examples]:
    config = _config(message)
    own = _own(config, context)
    return config, _statistics(config, message, own).apply(own)


def _statistics(config: ExperimentConfig, message: Message, own: Examples) -> Statistics:
    dataset, _ = local_data.load_parts(config)
    if config.preprocess.fit == "public":
        return local_data.public(config, dataset)
    if config.preprocess.fit == "local":
        return local_data.statistics_of(config, local_data.own_moments(config, own))
    summed = _config_value(message, MOMENTS_KEY, None)
    if not isinstance(summed, list):
        raise PayloadError(
            f"preprocess.fit=federated needs the summed '{MOMENTS_KEY}' in the message; use "
            "preprocess.fit=local or public with a strategy that does not sum them"
        )
    vector = np.array(summed, dtype=np.float64)
    features = dataset.train.features
    cross = config.preprocess.pca is not None
    target = config.dataset.task == "regression"
    moments = Moments.from_vector(vector, features, cross, target)
    return local_data.statistics_of(config, moments, through_scheme=True)


def _model(config: ExperimentConfig, message: Message) -> torch.nn.Module:
    """The global model, in fresh parameters of this client's own."""
    dataset, _ = local_data.load_parts(config)
    model = build_model(config.model, config.quantum, local_data.data_shape(config, dataset))
    arrays = arrays_of(message.content.array_records.get(ARRAYS, ArrayRecord()))
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise PayloadError(
            f"the server's arrays do not fit model {config.model.name}: {reason}"
        ) from None
    return model
