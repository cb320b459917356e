"""What left a client and how it was protected, and what privacy a run did not achieve, in words."""

from __future__ import annotations

from collections.abc import Iterator

from qfl.conf.schema import ExperimentConfig

NO_PRIVACY = (
    "No differential privacy: the trained model may tell whether a record or a client was in the "
    "training data, and what it was."
)
SERIES = ("bessel_j2", "damped_oscillator", "narma10")
_EACH = "the server, each client's own"
_SUMMED = "the server, summed over clients"


def left_the_clients(config: ExperimentConfig) -> list[dict[str, str]]:
    """Everything about its data that leaves a client.

    Returns:
        For each thing ``what`` it is, who has ``seen`` it first, and its ``protection``.

    Example:
        >>> [row["what"] for row in left_the_clients(ExperimentConfig())][:2]
        ['update of the model', 'training loss']
    """
    return [
        {"what": what, "seen": seen, "protection": protection}
        for what, seen, protection in _left(config)
    ]


def _left(config: ExperimentConfig) -> Iterator[tuple[str, str, str]]:
    asked, strategy = config.privacy, config.strategy
    plain = strategy.scheme == "plain"
    private = asked.mechanism != "none"
    summed = "none" if plain else "only the sum is seen"
    protection = _noise(config) if private else summed
    update, numbers = _update_seen(config), _numbers_seen(config)
    if strategy.selective.by == "all":
        yield "update of the model", update, protection
    else:
        yield "update of the model, protected parameters", update, protection
        in_clear = protection if private else "none"
        yield "update of the model, parameters in the clear", _EACH, in_clear
    if not private:
        yield "training loss", numbers, summed
        if strategy.release == "clients":
            what = "loss on own data"
            what += ", and accuracy" if config.dataset.task == "classification" else ""
            yield what, numbers, summed
    elif asked.clipping == "adaptive" and asked.mechanism != "dpsgd":
        yield (
            "whether the update was within the clipping norm",
            update,
            "noise on the count, accounted for with that on the update",
        )
    if strategy.weighting == "examples":
        yield "number of examples", numbers, summed
    if strategy.selection.name == "by_size":
        yield "number of examples, to select by", _EACH, "none"
    if config.preprocess.fit == "federated":
        projected = " and projection" if config.preprocess.pca else ""
        yield f"sums for scaling{projected}", numbers, summed
    if config.preprocess.fit == "local":
        yield (
            "each client's own scaling, in the model.json of a simulation",
            "whoever is given that file",
            "none",
        )
    if config.quantum.engine == "pennylane" and config.quantum.device == "qiskit.remote":
        yield "features, as angles of circuits", "whoever runs the quantum computer", "none"
    if strategy.selective.by == "sensitivity":
        yield "how much the loss depends on each parameter", numbers, summed
    if private and asked.epsilon is not None:
        yield "that its budget is spent, once it is", _EACH, "none"
    yield "taking part in a round, and time taken", "the server", "none"


def _opener(config: ExperimentConfig) -> str:
    return {
        "key_holder": "the key holder",
        "shared": "the client that opens sums",
        "committee": "one member of the committee",
    }.get(config.strategy.trust, "the server")


def _update_seen(config: ExperimentConfig) -> str:
    strategy, opener = config.strategy, _opener(config)
    if strategy.release == "clients":
        return f"{opener}, summed over clients"
    if config.privacy.mechanism == "central" and opener != "the server":
        return f"{opener}, summed over clients; then the server, with noise"
    return _numbers_seen(config)


def _numbers_seen(config: ExperimentConfig) -> str:
    """Under ``hybrid`` only a sum of keys is opened; the server takes it off itself."""
    if config.strategy.scheme == "plain":
        return _EACH
    if config.strategy.scheme in ("ckks", "packed"):
        return f"{_opener(config)} and the server, summed over clients"
    return _SUMMED


def _noise(config: ExperimentConfig) -> str:
    asked, strategy = config.privacy, config.strategy
    if asked.noise_multiplier == 0:
        return "clipped, without noise"
    colluders = f", {asked.colluders} of which may collude" if asked.colluders else ""
    opener = _opener(config)
    added = "after it has read them" if strategy.scheme == "plain" else "to the sum"
    return {
        "dpsgd": "trained with DP-SGD: every record's gradient clipped, noise on every step",
        "central": f"clipped by the client; noise added by {opener} {added}",
        "distributed": f"clipped; noise of at least {strategy.min_clients} clients{colluders}",
        "local": "clipped; noise by the client itself",
    }[asked.mechanism]


def not_achieved(config: ExperimentConfig, epsilon: float | None) -> list[str]:
    """What a reader might believe of a run and should not.

    Args:
        config: Of the run.
        epsilon: What was spent at most; None where nothing is guaranteed.

    Example:
        >>> not_achieved(ExperimentConfig(), None)[0].split(":")[0]
        'No differential privacy'
    """
    asked, strategy = config.privacy, config.strategy
    if asked.mechanism == "none":
        hidden = "" if strategy.scheme == "plain" else " Encryption hides updates, not the model."
        found = [NO_PRIVACY + hidden]
    else:
        of_mechanism = () if epsilon is None else _of_mechanism(config)
        found = [*_of_noise(config, epsilon), *of_mechanism, *_of_any_mechanism(config)]
    if strategy.scheme == "plain" and asked.mechanism != "local":
        noised = asked.mechanism == "dpsgd" and epsilon is not None
        found.append(
            "Nothing was encrypted: the server read every client's own update"
            + (", noised as that client noised it." if noised else ".")
        )
    found.append(
        "A simulation sees all data, and what it records of single clients is not protected; what "
        "is said of a server holds for the same configuration on real processes."
    )
    return found


def _of_noise(config: ExperimentConfig, epsilon: float | None) -> Iterator[str]:
    asked = config.privacy
    if asked.noise_multiplier == 0:
        yield "Noise multiplier 0: there is clipping but no noise, and nothing is guaranteed."
    elif epsilon is None:
        yield f"No finite epsilon holds at delta {asked.delta:g}: nothing is guaranteed."
    elif epsilon > 0:
        whose = {
            "dpsgd": "with one record as without it",
            "local": "with one client's data as with any others in their place",
        }.get(asked.mechanism, "with one client's data as without them")
        yield (
            f"The guarantee is a bound, not secrecy: but for a probability of {asked.delta:g}, "
            f"what others see may be up to e^epsilon times as likely {whose}."
        )


def _of_mechanism(config: ExperimentConfig) -> Iterator[str]:
    """Where the guarantee ends, provided that there is one."""
    asked, strategy = config.privacy, config.strategy
    if asked.mechanism == "dpsgd":
        yield (
            "The unit is one record, not all records of a client or of a person together: what "
            "several have in common may be told from the model."
        )
        why = (
            "sampling rate and noise follow from it"
            if asked.sample_rate is None
            else "noisy sums are divided by the expected size of a batch"
        )
        yield f"The number of a client's records is taken as known, because {why}."
        if config.dataset.name in SERIES:
            window = config.dataset.window + 1
            yield (
                f"A record is a window of a series with the value after it. A point is in up to "
                f"{window} of them, and what is guaranteed for it is what a group of so many has: "
                "much less."
            )
        if config.preprocess.fit == "local":
            yield (
                "Each client scales with statistics of its own data. One record moves them and "
                "with them all others' gradients, which the guarantee leaves out; "
                "preprocess.fit=public has no such gap."
            )
    elif asked.mechanism == "central":
        opener = _opener(config)
        seen = "every update" if strategy.scheme == "plain" else "sums"
        yield (
            f"{opener[0].upper()}{opener[1:]} sees {seen} before it adds the noise: the guarantee "
            "is against everybody else."
        )
    elif asked.mechanism == "distributed":
        honest = strategy.min_clients - asked.colluders
        against = f"at most {asked.colluders}" if asked.colluders else "none"
        yield (
            "The guarantee is computational, rests on the scheme's assumption, and is against an "
            f"honest-but-curious server together with {against} of the clients: it counts the "
            f"noise of {honest} honest client{'' if honest == 1 else 's'} and fails if fewer added "
            "theirs."
        )
        if not asked.colluders:
            yield (
                "Against another client less is guaranteed, because it knows its own share of the "
                "noise; privacy.colluders=1 counts without that share."
            )
    else:
        yield (
            "Every update carries all of its noise itself, which costs more accuracy than noise "
            "on a sum."
        )


def _of_any_mechanism(config: ExperimentConfig) -> Iterator[str]:
    yield (
        "Who took part in which round, how long it took, and the hyperparameters are not "
        "protected; hyperparameters chosen by looking at results on these data cost privacy that "
        "no ledger knows of."
    )
    yield (
        "Held-out examples are not protected: figures and predictions on them are shown as they "
        "are."
    )
    compared = config.baselines
    if compared.plain or compared.twin or compared.pooled:
        yield (
            "Baselines were trained on the same data for comparison, as only a simulation can; "
            "they are in no ledger, and a real federation would not train them."
        )
