"""The small data sets that come inside scikit-learn."""

from __future__ import annotations

import numpy as np

from qfl.conf.schema import DatasetConfig
from qfl.data.examples import Dataset, Examples
from qfl.data.split import hold_out
from qfl.errors import ConfigError

TOY_TASKS = {
    "digits": "classification",
    "breast_cancer": "classification",
    "wine": "classification",
    "iris": "classification",
    "diabetes": "regression",
}

_PUBLIC_RANGES = {"digits": (0.0, 16.0)}


def check_task(config: DatasetConfig, task: str) -> None:
    """Refuse a configuration whose task is not the data set's.

    Raises:
        ConfigError: Names both tasks.
    """
    if config.task != task:
        raise ConfigError(
            f"dataset.task={config.task} contradicts dataset={config.name}, which is a {task} "
            f"data set: set dataset.task={task}"
        )


def load_toy(config: DatasetConfig, seed: int) -> Dataset:
    """Load digits, breast_cancer, wine, iris or diabetes.

    Diabetes is taken unscaled: the scaled form that scikit-learn offers was fitted on all
    examples, the test set among them.

    Raises:
        ConfigError: ``config.task`` contradicts the data set.
    """
    check_task(config, TOY_TASKS[config.name])
    from sklearn import datasets

    if config.name == "diabetes":
        raw = datasets.load_diabetes(scaled=False)
        examples = Examples(raw.data.astype(np.float32), raw.target.astype(np.float32))
        classes: tuple[str, ...] = ()
    else:
        raw = getattr(datasets, f"load_{config.name}")()
        examples = Examples(raw.data.astype(np.float32), raw.target.astype(np.int64))
        classes = tuple(str(name) for name in raw.target_names)
    train, test = hold_out(examples, config.test_fraction, seed)
    return Dataset(
        name=config.name,
        task=config.task,
        train=examples.take(train),
        test=examples.take(test),
        classes=classes,
        public_range=_PUBLIC_RANGES.get(config.name),
    )
