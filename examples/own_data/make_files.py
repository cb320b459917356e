"""Write one CSV file per hospital from scikit-learn's breast cancer data, unevenly."""

import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer


def main(folder: Path) -> None:
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    diagnoses = np.array(data.target_names)[data.target]
    order = np.random.default_rng(0).permutation(len(data.data))
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.split(order, [60, 220])):
        with (folder / f"hospital_{number}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*names, "diagnosis"])
            for row in rows:
                table.writerow([*data.data[row], diagnoses[row]])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("hospitals"))
