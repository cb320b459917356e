"""Images of a client, from what the server receives: with and without protection.

Five clients take one step of gradient descent, each on four handwritten digits. Likeness is
measured after the mean digit is taken off, so that 1 is the image itself and 0 the mean digit; four
other digits, assigned as well as possible, come to about 0.25.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from inversion import Likeness, chance, likeness, readings
from watched import Update, Watched, watch

CLIENTS, IMAGES = 5, 4
VICTIM = 1  # node
MODELS = ("qnn", "mlp")
# 2000 draws of four other digits came to at most 0.64.
LUCKY = 0.65
STEPS = 100

Round = Callable[[str, str], Watched]


@pytest.fixture(scope="module")
def play() -> Round:
    """A round under a scheme, with a model; once for all tests here."""

    def run(scheme: str, model: str) -> Watched:
        return watch(scheme, model, clients=CLIENTS, images=IMAGES, training=CLIENTS, seed=0)

    return cache(run)


def attack(seen: Watched, update: Update, clients: int, steps: int = STEPS) -> Likeness:
    attacker, originals = seen.attacker(), seen.originals(clients)
    found = attacker.invert(update.gradient, update.images, steps)
    return likeness(found.images, originals, attacker.mean)


def error_of_mean_digit(seen: Watched) -> float:
    originals = seen.originals(1)
    return float(np.mean((seen.attacker().mean - originals) ** 2)) / 4


@pytest.mark.parametrize("model", MODELS)
def test_from_an_update_in_the_clear_the_server_gets_the_images(play: Round, model: str) -> None:
    seen = play("plain", model)
    update = seen.in_the_clear(VICTIM)
    assert update.images == IMAGES
    found = attack(seen, update, 1)
    assert chance(seen.attacker(), seen.originals(1), IMAGES) < 0.4
    assert found.correlation.min() > 0.9
    assert found.error.mean() < 0.1 * error_of_mean_digit(seen)


@pytest.mark.parametrize(
    ("scheme", "model"),
    [("ckks", "qnn"), ("ckks", "mlp"), ("packed", "mlp"), ("hybrid", "mlp"), ("masking", "mlp")],
)
def test_from_a_protected_contribution_it_gets_no_more_than_from_a_guess(
    play: Round, scheme: str, model: str
) -> None:
    clear, seen = play("plain", model), play(scheme, model)
    gradient, length = clear.in_the_clear(VICTIM).gradient, seen.experiment.parameters
    size = float(np.linalg.norm(gradient))
    attempts = []
    for reading in readings(seen.training[VICTIM], length, size):
        assert abs(reading @ gradient) < 0.5 * size**2
        attempts.append(attack(seen, Update(reading, IMAGES), 1, 60))
    assert max(found.correlation.mean() for found in attempts) < LUCKY
    assert np.mean([found.error.mean() for found in attempts]) > error_of_mean_digit(seen)


def test_one_of_the_readings_is_right_where_there_is_no_protection(play: Round) -> None:
    seen = play("plain", "mlp")
    gradient = seen.in_the_clear(VICTIM).gradient
    size, length = float(np.linalg.norm(gradient)), seen.experiment.parameters
    first, *_ = readings(seen.training[VICTIM], length, size)
    np.testing.assert_allclose(first, gradient, atol=1e-5 * size)
    assert attack(seen, Update(first, IMAGES), 1).correlation.min() > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_the_opened_mean_is_no_clients_gradient(play: Round, model: str) -> None:
    seen = play("ckks", model)
    found = attack(seen, Update(seen.summed().gradient, IMAGES), 1)
    assert found.correlation.mean() < LUCKY
    assert found.error.mean() > error_of_mean_digit(seen)


@pytest.mark.parametrize("model", MODELS)
def test_the_opened_sum_of_few_images_still_tells_of_them(play: Round, model: str) -> None:
    # What encryption does not help against: a sum of clients is the update of one larger batch.
    seen = play("ckks", model)
    update, originals = seen.summed(), seen.originals(CLIENTS)
    assert update.images == CLIENTS * IMAGES
    found = attack(seen, update, CLIENTS)
    guess = chance(seen.attacker(), originals, update.images)
    assert guess + 0.1 < found.correlation.mean() < 0.92
    inferred = seen.attacker().invert(update.gradient, update.images, 1).labels
    labels = np.concatenate([part.y for part in seen.experiment.parts])
    assert inferred.tolist() == sorted(labels)


def test_likeness_finds_the_best_assignment() -> None:
    random = np.random.default_rng(0)
    originals, mean = random.uniform(-1, 1, (3, 64)), np.zeros((1, 64))
    found = np.concatenate([random.uniform(-1, 1, (2, 64)), originals[[2, 0, 1]]])
    compared = likeness(found, originals, mean)
    assert compared.order.tolist() == [3, 4, 2]
    np.testing.assert_allclose(compared.correlation, 1)
    np.testing.assert_allclose(compared.error, 0)
    nothing = likeness(np.zeros((3, 64)), originals, mean)
    np.testing.assert_allclose(nothing.correlation, 0)
    np.testing.assert_allclose(nothing.error[nothing.order], np.mean(originals**2, axis=1) / 4)
