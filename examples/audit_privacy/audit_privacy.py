"""Attacks models that one client trained, and compares what the attack shows with what is proven.

The attack guesses for every record whether it was in the training data (Carlini et al. 2022,
"Membership inference attacks from first principles", LiRA). It knows all records, the model that
training starts from, and how other models, which it trained itself, come out with and without each
record. What its guesses prove about epsilon is the bound of Steinke, Nasr and Jagielski 2023,
"Privacy auditing with one (1) training run": a record is in by a fair coin, for each model anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from qfl.clients.private_training import train_privately
from qfl.clients.training import evaluate, train
from qfl.conf.schema import ClientConfig, DatasetConfig, MlpConfig, QuantumConfig
from qfl.data import Examples, load_dataset
from qfl.models import DataShape, initial_model
from qfl.privacy import epsilon_of, noise_multiplier_for
from qfl.privacy.auditing import epsilon_from_guesses
from qfl.privacy.dpsgd import DpSgd

Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]

RECORDS = 500
DELTA, CONFIDENCE = 1e-5, 0.95
EPSILONS = (None, 4.0, 1.0)
ORDINARY = ClientConfig(optimizer="adam", lr=0.01, local_epochs=40, batch_size=32)
PRIVATE = ClientConfig(optimizer="adam", lr=0.02)
SAMPLE_RATE, STEPS = 0.3, 60
# Guessed are the coins of which the attack is surest. How many was fixed before any was seen, and
# each of the four bounds is held to a quarter of the error: the best of them counts.
SHARES = (0.01, 0.03, 0.1, 0.3)
COLOURS = ("#D55E00", "#0072B2", "#009E73")


@dataclass(frozen=True)
class Outcome:
    """What one way of training came to.

    Attributes:
        mechanism: Its name.
        proven: Upper bound on epsilon at ``DELTA``.
        shown: Lower bound, by the attack.
        accuracy: Of held-out records, mean over models.
        inside: The attack's scores for records that were in.
        outside: The attack's scores for records that were out.
    """

    mechanism: str
    proven: float
    shown: float
    accuracy: float
    inside: Floats
    outside: Floats

    @property
    def auc(self) -> float:
        """Probability that a record that was in has the higher score of two."""
        ranks = np.searchsorted(np.sort(self.outside), self.inside, "left")
        ties = np.searchsorted(np.sort(self.outside), self.inside, "right") - ranks
        return float((ranks + ties / 2).mean() / len(self.outside))

    def allowed(self, false_positives: Floats) -> Floats:
        """Rates of true positives that no attack passes, by what is proven."""
        least_missed = np.exp(-self.proven) * (1 - DELTA - false_positives)
        return np.minimum(np.exp(self.proven) * false_positives + DELTA, 1 - least_missed)

    def true_positives(self, false_positives: Floats) -> Floats:
        """Rates of true positives at rates of false ones."""
        limits = np.quantile(self.outside, 1 - false_positives)
        return np.array([(self.inside > limit).mean() for limit in limits])


class Client:
    """Trains on whichever of its records a coin puts in."""

    def __init__(self) -> None:
        digits = load_dataset(DatasetConfig(name="digits"), seed=0)
        public = digits.public_range
        assert public is not None
        low, high = public
        scaled = [
            Examples((2 * (part.x - low) / (high - low) - 1).astype(np.float32), part.y)
            for part in (digits.train, digits.test)
        ]
        self.records, self.held_out = scaled[0].take(np.arange(RECORDS)), scaled[1]
        self._shape = DataShape(self.records.features, 0, len(digits.classes))

    def trained(self, inside: Coins, privacy: DpSgd | None, order: int) -> tuple[Floats, float]:
        """Scores of all records by one model, (records,), and its accuracy on held-out ones.

        Args:
            inside: Which records it is trained on.
            privacy: None trains without.
            order: Seed of the order of batches, without privacy. With it nobody knows the batches.
        """
        model = initial_model(MlpConfig(width=32, hidden=32), QuantumConfig(), self._shape, 0)
        if privacy is None:
            members = self.records.take(np.flatnonzero(inside))
            train(model, members, ORDINARY, "classification", seed=(order,))
        else:
            # A record that is out is blank: it changes nothing, and their number tells nothing.
            x = np.where(inside[:, None], self.records.x, np.float32(np.nan))
            train_privately(model, Examples(x, self.records.y), PRIVATE, privacy, "classification")
        right = evaluate(model, self.held_out, "classification").predictions == self.held_out.y
        return confidences(model, self.records), float(right.mean())


def confidences(model: torch.nn.Module, records: Examples) -> Floats:
    """log(p / (1 - p)) for the probability p of each record's own class."""
    with torch.no_grad():
        logits = model(torch.from_numpy(records.x)).double()
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[torch.arange(len(records)), torch.from_numpy(records.y)] = True
    others = torch.logsumexp(logits.masked_fill(own, -torch.inf), dim=1)
    return (logits[own] - others).numpy()


def likelihood_ratios(shadows: Floats, coins: Coins, targets: Floats) -> Floats:
    """How much likelier a target's score of a record is with the record in than with it out.

    Args:
        shadows: Scores of records by models whose coins are known, (models, records).
        coins: Those coins.
        targets: Scores by the models under attack, (models, records).

    Returns:
        Logarithms, positive for "in", (models, records).
    """
    densities = []
    for side in (coins, ~coins):
        count = side.sum(axis=0)
        means = np.where(side, shadows, 0).sum(axis=0) / count
        squares = np.where(side, (shadows - means) ** 2, 0).sum(axis=0)
        # A few models tell little of one record's spread: it is drawn towards that of all.
        spread = np.sqrt((squares + 4 * squares.sum() / count.sum()) / (count + 3))
        densities.append(norm.logpdf(targets, means, spread))
    return densities[0] - densities[1]


def epsilon_shown(ratios: Floats, coins: Coins) -> float:
    """Lower bound on epsilon from guesses about the models under attack."""
    surest = np.argsort(-np.abs(ratios), axis=None)
    right = ((ratios > 0) == coins).ravel()[surest]
    counts = [max(1, round(share * coins.size)) for share in SHARES]
    return max(
        epsilon_from_guesses(
            int(right[:count].sum()), count, coins.size, DELTA, 1 - (1 - CONFIDENCE) / len(SHARES)
        )
        for count in counts
    )


def audit(client: Client, epsilon: float | None, shadows: int, targets: int) -> Outcome:
    """Train and attack.

    Args:
        client: Trains.
        epsilon: Budget of a training; None for training without privacy.
        shadows: Models that the attacker trains.
        targets: Models that it attacks.
    """
    privacy = None if epsilon is None else plan(epsilon)
    mechanism = "no privacy" if privacy is None else f"DP-SGD, noise {privacy.noise_multiplier:g}"
    print(f"{mechanism}: training {shadows + targets} models", file=sys.stderr)
    coins = np.random.default_rng(0).random((shadows + targets, RECORDS)) < 0.5
    trained = [client.trained(inside, privacy, order) for order, inside in enumerate(coins)]
    scores = np.array([one for one, _ in trained])
    # The attacker sees no coin of the models that it attacks.
    ratios = likelihood_ratios(scores[:shadows], coins[:shadows], scores[shadows:])
    hidden = coins[shadows:]
    return Outcome(
        mechanism,
        float("inf") if privacy is None else epsilon_of([privacy.charge()], DELTA),
        epsilon_shown(ratios, hidden),
        float(np.mean([accuracy for _, accuracy in trained])),
        ratios[hidden],
        ratios[~hidden],
    )


def plan(epsilon: float) -> DpSgd:
    """DP-SGD with as little noise as epsilon allows."""

    def with_noise(noise: float) -> DpSgd:
        return DpSgd(noise_multiplier=noise, sample_rate=SAMPLE_RATE, steps=STEPS)

    return with_noise(
        noise_multiplier_for(epsilon, DELTA, lambda noise: [with_noise(noise).charge()])
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """All results, as text."""
    lines = [
        f"{'mechanism':20} {'proven epsilon':>15} {'shown by attack':>16} {'attack AUC':>11} "
        f"{'TPR at 1 % FPR':>15} {'accuracy':>9}"
    ]
    for one in outcomes:
        (rate,) = one.true_positives(np.array([0.01]))
        proven = f"at most {one.proven:.2f}" if np.isfinite(one.proven) else "infinite"
        lines.append(
            f"{one.mechanism:20} {proven:>15} {f'at least {one.shown:.2f}':>16} {one.auc:11.3f} "
            f"{f'{100 * rate:.1f} %':>15} {f'{100 * one.accuracy:.1f} %':>9}"
        )
    return "\n".join(lines)


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """ROC curves of all, on logarithmic axes: what counts is who is found without false alarms."""
    from matplotlib.figure import Figure

    rates = np.geomspace(1e-3, 1, 91)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    dashes = ("-", "--", "-.")
    for one, colour, dash in zip(outcomes, COLOURS, dashes, strict=True):
        proven = f"epsilon {one.proven:.3g}" if np.isfinite(one.proven) else "epsilon infinite"
        label = f"{one.mechanism} ({proven}): AUC {one.auc:.2f}"
        axes.plot(rates, one.true_positives(rates), color=colour, linestyle=dash, label=label)
        if np.isfinite(one.proven):
            axes.plot(rates, one.allowed(rates), color=colour, linestyle=dash, linewidth=0.6)
    axes.plot([], [], color="#888888", linewidth=0.6, label="thin: no attack gets above")
    axes.plot(rates, rates, color="#888888", linestyle=":", label="guessing")
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1.1))
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8.5, loc="outside upper left", ncols=2)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Attack models, trained with and without privacy.")
    parser.add_argument("--quick", action="store_true", help="few models; half a minute")
    parser.add_argument("--figure", type=Path, default=Path("roc.svg"), help=".svg or .png")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shadows, targets = (16, 8) if given.quick else (192, 64)
    client = Client()
    outcomes = [audit(client, epsilon, shadows, targets) for epsilon in EPSILONS]
    print(table(outcomes))
    draw(outcomes, given.figure)


if __name__ == "__main__":
    main()
