"""The schemas of the configuration: every key, its type, default, range and meaning.

One frozen truth for the command line, for the experiment files, for what a client accepts over
the wire and for ``docs/configuration.md``. Ranges stand beside the fields and are enforced by
:mod:`qfl.conf.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from qfl.conf.identity_schema import IdentityConfig
from qfl.conf.model_schema import (
    MODEL_CONFIGS,
    CnnConfig,
    LstmConfig,
    MlpConfig,
    ModelConfig,
    QcnnConfig,
    QlstmConfig,
    QnnConfig,
    QuantumKernelConfig,
    RbfConfig,
)
from qfl.conf.privacy_schema import PrivacyConfig
from qfl.conf.settings import part, setting

__all__ = [
    "DATASET_NAMES",
    "MODEL_CONFIGS",
    "BaselinesConfig",
    "ClientConfig",
    "CnnConfig",
    "DatasetConfig",
    "ExperimentConfig",
    "IdentityConfig",
    "LstmConfig",
    "MlpConfig",
    "ModelConfig",
    "NoiseConfig",
    "PartitionConfig",
    "PreprocessConfig",
    "PrivacyConfig",
    "QcnnConfig",
    "QlstmConfig",
    "QnnConfig",
    "QuantumConfig",
    "QuantumKernelConfig",
    "RbfConfig",
    "SelectionConfig",
    "SelectiveConfig",
    "ServerOptimizerConfig",
    "SimulationConfig",
    "StopConfig",
    "StrategyConfig",
    "part",
    "setting",
]

# Grows when users register data sets of their own.
DATASET_NAMES = [
    "digits",
    "breast_cancer",
    "wine",
    "iris",
    "diabetes",
    "bessel_j2",
    "damped_oscillator",
    "narma10",
    "csv",
    "parquet",
    "npz",
]


@dataclass
class DatasetConfig:
    """Where the examples come from (group ``dataset``)."""

    name: str = setting(
        "digits",
        "built-in data set, or the format of your own file",
        choices=DATASET_NAMES,
    )
    task: str = setting(
        "classification",
        "what is predicted: a class or a number",
        choices=("classification", "regression"),
    )
    test_fraction: float = setting(
        0.2, "share held out for testing before partitioning", gt=0, lt=1
    )
    path: str | None = setting(None, "your own data: a file, or a folder with one file per client")
    target: str | None = setting(None, "your own data: the column to predict")
    length: int = setting(1200, "time series: number of points generated", ge=50)
    window: int = setting(12, "time series: points that the model sees", ge=1)


@dataclass
class PartitionConfig:
    """How training examples are split among the clients (group ``partition``)."""

    name: str = setting(
        "dirichlet",
        "partitioner",
        choices=("iid", "dirichlet", "shards", "quantity", "contiguous", "files"),
    )
    alpha: float = setting(0.5, "dirichlet, quantity: concentration; small is more skewed", gt=0)
    shards_per_client: int = setting(2, "shards: label shards that each client gets", ge=1)
    min_examples: int = setting(2, "fewest examples of a client; 0 allows empty clients", ge=0)


@dataclass
class PreprocessConfig:
    """Scaling and projection of the features; fitted on training data only."""

    scale: str = setting(
        "standard",
        "what is done to each feature",
        choices=("none", "standard"),
    )
    pca: int | None = setting(None, "project to this many principal components", ge=1)
    fit: str = setting(
        "federated",
        "where the statistics come from: each client's own data, sums over all clients "
        "through the aggregation scheme, or a range known to everybody",
        choices=("local", "federated", "public"),
    )


@dataclass
class NoiseConfig:
    """Simulated noise; needs ``quantum.device=default.mixed``."""

    depolarizing: float = setting(
        0.0, "probability of a random Pauli on each wire of a gate, after the gate", ge=0, lt=1
    )
    amplitude_damping: float = setting(
        0.0, "probability that a wire of a gate decays to 0 after the gate", ge=0, lt=1
    )
    readout_error: float = setting(0.0, "probability that a wire is read wrongly", ge=0, lt=0.5)


@dataclass
class QuantumConfig:
    """What runs the circuits (group ``quantum``)."""

    engine: str = setting(
        "auto",
        "auto takes the fastest engine that runs the circuit; pennylane the device below",
        choices=("auto", "kernel", "torch", "pennylane"),
    )
    threads: int = setting(
        1, "engine kernel: threads that share a batch; results do not depend on it", ge=1
    )
    device: str = setting("default.qubit", "engine pennylane: device")
    diff_method: str = setting(
        "backprop",
        "engine pennylane: how gradients of circuits are computed",
        choices=("backprop", "adjoint", "parameter-shift", "spsa", "best"),
    )
    shots: int | None = setting(
        None, "times that a circuit is run for one value; null: exact expectations", ge=1
    )
    seed: int = setting(
        0,
        "seed of shots and of spsa; options of this group set it to the experiment's",
        ge=0,
        lt=2**32,
    )
    mitigation: str = setting(
        "none",
        "correction of noise: readout errors, zero-noise extrapolation, or both",
        choices=("none", "readout", "zne", "both"),
    )
    backend: str | None = setting(
        None,
        "device qiskit.remote: IBM's name of the computer (null: the least busy), or fake_NAME",
    )
    noise: NoiseConfig = part(NoiseConfig)


@dataclass
class ClientConfig:
    """How a client trains (group ``client``)."""

    lr: float = setting(0.01, "learning rate", gt=0)
    local_epochs: int = setting(1, "passes over the client's data in a round", ge=1)
    batch_size: int = setting(32, "examples in a batch", ge=1)
    optimizer: str = setting("adam", "local optimizer", choices=("sgd", "adam"))
    momentum: float = setting(0.0, "sgd: momentum", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty", ge=0)
    proximal_mu: float = setting(
        0.0, "weight of FedProx's pull towards the global model; 0 is off", ge=0
    )


@dataclass
class SelectionConfig:
    """Which clients train in a round."""

    name: str = setting("all", "rule", choices=("all", "fraction", "count", "by_size"))
    fraction: float = setting(1.0, "fraction: share of the clients", gt=0, le=1)
    count: int = setting(2, "count, by_size: number of clients", ge=1)


@dataclass
class ServerOptimizerConfig:
    """How the opened mean update changes the global model."""

    name: str = setting(
        "fedavg", "server optimizer", choices=("fedavg", "fedavgm", "fedadam", "fedyogi")
    )
    lr: float = setting(1.0, "server learning rate", gt=0)
    momentum: float = setting(0.9, "fedavgm: momentum", ge=0, lt=1)
    beta1: float = setting(0.9, "fedadam, fedyogi: decay of the first moment", ge=0, lt=1)
    beta2: float = setting(0.99, "fedadam, fedyogi: decay of the second moment", ge=0, lt=1)
    tau: float = setting(1e-3, "fedadam, fedyogi: added to the denominator", gt=0)


@dataclass
class SelectiveConfig:
    """Which parameters are protected; the others travel in the clear."""

    by: str = setting(
        "all", "all, arrays by name, or by sensitivity", choices=("all", "layers", "sensitivity")
    )
    share: float = setting(0.1, "sensitivity: share that is protected", gt=0, le=1)
    layers: str = setting(
        "", "layers: patterns of array names that are protected, separated by spaces: circuit.*"
    )


@dataclass
class StrategyConfig:
    """How updates are summed, and by whom the sum is opened (group ``strategy``)."""

    scheme: str = setting(
        "ckks", "aggregation scheme", choices=("plain", "ckks", "packed", "hybrid", "masking")
    )
    trust: str = setting(
        "key_holder",
        "who can open a sum: a participant that is not the server, a committee together, every "
        "client, or nobody in particular",
        choices=("none", "key_holder", "committee", "shared"),
    )
    release: str = setting(
        "server",
        "who learns what is opened; clients: the server never sees the model",
        choices=("server", "clients"),
    )
    weighting: str = setting(
        "examples", "weight of a client in the mean", choices=("examples", "uniform")
    )
    min_clients: int = setting(2, "fewest updates in a sum that is opened", ge=1)
    bound: float = setting(
        2.0, "largest magnitude of an update's coordinate; a larger one is refused", gt=0, le=64
    )
    grid_bits: int = setting(20, "updates are rounded to multiples of 2^-grid_bits", ge=8, le=30)
    rounding: str = setting(
        "nearest",
        "how updates are brought to the grid; stochastic is right on average",
        choices=("nearest", "stochastic"),
    )
    committee: int = setting(3, "trust committee: members", ge=2)
    threshold: int = setting(2, "trust committee: members that open together", ge=2)
    dropout: float = setting(
        0.2, "scheme masking: share of clients that may vanish in a round", ge=0, lt=0.5
    )
    corrupted: float = setting(
        0.1, "scheme masking: share of clients that may collude with the server", ge=0, lt=0.5
    )
    round_timeout: float = setting(3600.0, "seconds to wait for replies in a round", gt=0)
    selection: SelectionConfig = part(SelectionConfig)
    selective: SelectiveConfig = part(SelectiveConfig)
    server_optimizer: ServerOptimizerConfig = part(ServerOptimizerConfig)


@dataclass
class SimulationConfig:
    """How a simulation uses this machine."""

    backend: str = setting("local", "engine", choices=("local", "ray"))
    workers: int = setting(2, "clients that train at the same time", ge=1)
    ray_address: str | None = setting(
        None, "ray: cluster to join; RAY_ADDRESS where unset, else one on this machine"
    )


@dataclass
class StopConfig:
    """Stop before ``rounds`` when the held-out loss no longer falls."""

    patience: int = setting(0, "rounds without improvement before stopping; 0 is off", ge=0)
    min_delta: float = setting(1e-4, "smallest fall of the loss that counts", ge=0)


@dataclass
class BaselinesConfig:
    """What is trained beside the experiment, for comparison."""

    plain: bool = setting(False, "the same federation without encryption")
    twin: bool = setting(False, "the model's classical twin in the same federation")
    pooled: bool = setting(False, "a scikit-learn linear model on the pooled training data")


@dataclass
class ExperimentConfig:
    """One experiment; the same under ``simulate`` and on real processes."""

    name: str = setting("default", "name of the experiment and of its folder")
    seed: int = setting(0, "seed of everything random, keys excepted", ge=0, lt=2**32)
    rounds: int = setting(20, "federated rounds", ge=1)
    clients: int = setting(10, "clients that hold data", ge=1)
    dataset: DatasetConfig = part(DatasetConfig)
    partition: PartitionConfig = part(PartitionConfig)
    preprocess: PreprocessConfig = part(PreprocessConfig)
    model: ModelConfig = part(QnnConfig)
    quantum: QuantumConfig = part(QuantumConfig)
    client: ClientConfig = part(ClientConfig)
    strategy: StrategyConfig = part(StrategyConfig)
    privacy: PrivacyConfig = part(PrivacyConfig)
    identity: IdentityConfig = part(IdentityConfig)
    simulation: SimulationConfig = part(SimulationConfig)
    stop: StopConfig = part(StopConfig)
    baselines: BaselinesConfig = part(BaselinesConfig)
    resume: str | None = setting(None, "run folder to continue")
