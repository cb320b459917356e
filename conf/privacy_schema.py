"""The schema of the group ``privacy``."""

from __future__ import annotations

from dataclasses import dataclass

from qfl.conf.settings import setting

MECHANISMS = ("none", "dpsgd", "central", "distributed", "local")


@dataclass
class PrivacyConfig:
    """What differential privacy is given, to whom, and how much of it a run may spend."""

    mechanism: str = setting(
        "none",
        "dpsgd: for each record, by every client in training; for each client, with noise by "
        "whoever opens the sum (central), by all clients together (distributed), or by each alone "
        "(local)",
        choices=MECHANISMS,
    )
    epsilon: float | None = setting(
        8.0, "budget of a client's data; null: none, what is spent is only recorded", gt=0
    )
    delta: float = setting(1e-5, "chance that epsilon does not hold; below 1/records", gt=0, lt=1)
    accountant: str = setting(
        "auto",
        "auto takes prv where it applies, which is tighter, and else rdp",
        choices=("auto", "prv", "rdp"),
    )
    noise_multiplier: float | None = setting(
        None,
        "standard deviation of the noise over the sensitivity; null: the smallest with which all "
        "rounds stay within epsilon",
        ge=0,
    )
    clipping_norm: float = setting(
        1.0, "largest L2 norm of a record's gradient, or of a client's update", gt=0
    )
    clipping: str = setting(
        "flat",
        "flat; per_layer (dpsgd only); adaptive follows a quantile of the norms",
        choices=("flat", "per_layer", "adaptive"),
    )
    target_quantile: float = setting(
        0.5, "adaptive: share of norms that shall lie below the clipping norm", gt=0, lt=1
    )
    clipping_lr: float = setting(0.2, "adaptive: how fast the clipping norm follows", gt=0)
    count_noise: float = setting(
        10.0, "adaptive: standard deviation of the noise on the count of unclipped", gt=0
    )
    sample_rate: float | None = setting(
        None,
        "dpsgd: probability with which a record is in a batch; null: client.batch_size over the "
        "client's records",
        gt=0,
        le=1,
    )
    gradients: str = setting(
        "fused",
        "dpsgd: what finds every record's gradient, qfl's own or the hooks of Opacus",
        choices=("fused", "opacus"),
    )
    noise: str = setting(
        "discrete_gaussian",
        "central, distributed, local: distribution of the noise, on integers",
        choices=("discrete_gaussian", "skellam"),
    )
    colluders: int = setting(
        0,
        "distributed: clients whose noise does not count, because they may tell it to the server",
        ge=0,
    )
