"""Writes tests/data/folds.json: the splits that scikit-learn and nnU-Net make, as indices into sorted names.

Needs numpy, scikit-learn and nnunetv2 (versions are written into the file).
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from nnunetv2.utilities.crossval_split import generate_crossval_split
from sklearn.model_selection import KFold

SIZES = [2, 3, 4, 5, 6, 7, 11, 23, 64, 101, 200, 257, 484]
BEYOND = [(2, 5), (5, 5), (10, 6), (23, 7), (200, 5), (200, 99)]


def cross_validation(count):
    splits = KFold(n_splits=min(5, count), shuffle=True, random_state=12345)
    held_out = [[int(i) for i in test] for _, test in splits.split(np.arange(count))]
    if count >= 5:
        names = [f"case_{i:04d}" for i in range(count)]
        for fold, indices in zip(generate_crossval_split(names), held_out):
            assert list(fold["val"]) == [names[i] for i in indices]
            assert list(fold["train"]) == [name for i, name in enumerate(names) if i not in indices]
    return held_out


def random_split(count, fold):
    """The rule in nnUNetTrainer.do_split for a fold beyond the list."""
    return [int(i) for i in np.random.RandomState(seed=12345 + fold).choice(count, int(count * 0.8), replace=False)]


reference = {
    "versions": {name: version(name) for name in ("numpy", "scikit-learn", "nnunetv2")},
    "cross_validation": [{"cases": n, "val": cross_validation(n)} for n in SIZES],
    "random_split": [{"cases": n, "fold": fold, "train": random_split(n, fold)} for n, fold in BEYOND],
}
path = Path(__file__).parents[1] / "data" / "folds.json"
path.write_text(json.dumps(reference, separators=(",", ":")) + "\n")
