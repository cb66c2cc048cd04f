"""One difference over several sweeps: a row less another, the mean of all cells (sweep x fraction).

    python tests/reference/pool_sweeps.py ROW OTHER results.jsonl [results.jsonl ...]

Of every case the mean Dice over regions; differences by seed and case. The interval is a bootstrap: for each sweep seeds are
drawn with replacement, then cases, the same for all its fractions; the mean over cells of the means is taken. Needs NumPy.
"""

import json
import sys

import numpy as np


def dice(lines, row):
    """{fraction: {seed: {case: mean Dice over regions}}}"""
    found = {}
    for line in lines:
        if line["row"] != row:
            continue
        for case in line["cases"]:
            values = [value for value in case["Dice"] if value is not None]
            if values:
                seeds = found.setdefault(line["fraction"], {})
                seeds.setdefault(line["seed"], {})[case["case"]] = np.mean(values)
    return found


def differences(file, row, other):
    """Arrays of (seed, case), one for each fraction."""
    with open(file) as text:
        lines = [json.loads(line) for line in text]
    first, second = dice(lines, row), dice(lines, other)
    for fraction in sorted(first):
        a, b = first[fraction], second[fraction]
        assert a.keys() == b.keys() and len({tuple(sorted(s)) for s in [*a.values(), *b.values()]}) == 1
        yield fraction, np.array([[a[s][c] - b[s][c] for c in sorted(a[s])] for s in sorted(a)])


def main(row, other, *files):
    sweeps = [list(differences(file, row, other)) for file in files]
    for file, sweep in zip(files, sweeps):
        for fraction, values in sweep:
            print(f"{file} {100 * fraction:g} %: {values.mean():+.4f}, by seed {values.mean(1).round(4).tolist()}")
    random = np.random.default_rng(1)
    draws = []
    for _ in range(10_000):
        cells = []
        for sweep in sweeps:
            seeds, cases = sweep[0][1].shape
            s, c = random.integers(0, seeds, seeds), random.integers(0, cases, cases)
            cells += [values[np.ix_(s, c)].mean() for _, values in sweep]
        draws.append(np.mean(cells))
    mean = np.mean([values.mean() for sweep in sweeps for _, values in sweep])
    low, high = np.quantile(draws, [0.025, 0.975])
    print(f"{row} less {other}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")


main(*sys.argv[1:])
