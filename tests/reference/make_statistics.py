"""Reference values for tests/it/statistics.rs: SciPy on small random samples, and a bootstrap in NumPy.

Needs SciPy 1.17 and NumPy 2. Run from the root of the repository: `python tests/reference/make_statistics.py`.
Writes tests/data/statistics.json.
"""

import json
import pathlib

import numpy as np
from scipy import stats

DATA = pathlib.Path(__file__).parent.parent / "data"
rng = np.random.default_rng(7)


def wilcoxon():
    samples = [rng.normal(shift, 1, n) for n in (1, 2, 5, 9, 20, 50, 51, 80) for shift in (0.0, 0.5)]
    # With ties, with zeros, with both; short and long.
    samples += [np.round(rng.normal(0.3, 1, n), 1) for n in (6, 10, 13, 14, 30, 60)]
    samples += [np.array([0.0, 0.5, -0.25, 1.0]), np.concatenate([[0.0], rng.normal(0.4, 1, 20)])]
    found = [stats.wilcoxon(s) for s in samples]
    return [{"differences": s.tolist(), "statistic": float(f.statistic), "p": float(f.pvalue)}
            for s, f in zip(samples, found)]


def holm():
    # Step-down by hand, as in R's p.adjust(method = "holm").
    p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.04]
    order = np.argsort(p, kind="stable")
    adjusted, highest = np.zeros(len(p)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = highest
    return {"p": p, "adjusted": adjusted.tolist()}


def pairs():
    found = []
    for n, digits in ((2, 3), (5, 3), (30, 3), (30, 0), (100, 1)):
        x = np.round(rng.normal(0, 1, n), digits)
        y = np.round(x + rng.normal(0, 1, n), digits)
        found.append({"x": x.tolist(), "y": y.tolist(), "spearman": float(stats.spearmanr(x, y).statistic)})
    return found


def distances():
    found = []
    for n, m, digits in ((1, 1, 3), (5, 8, 3), (100, 30, 3), (40, 40, 0)):
        a, b = np.round(rng.normal(0, 1, n), digits), np.round(rng.normal(1, 2, m), digits)
        found.append({"a": a.tolist(), "b": b.tolist(), "distance": float(stats.wasserstein_distance(a, b))})
    return found


def bootstrap():
    """Seeds, then cases, drawn with replacement; one draw of cases for all seeds of a replicate."""
    seeds, cases, draws = 4, 25, 200_000
    values = rng.normal(0.6, 0.05, (seeds, 1)) + rng.normal(0, 0.2, (1, cases)) + rng.normal(0, 0.05, (seeds, cases))
    values[1, 3] = values[2, 3] = np.nan
    s = rng.integers(0, seeds, (draws, seeds))
    c = rng.integers(0, cases, (draws, cases))
    means = np.array([np.nanmean(values[np.ix_(i, j)]) for i, j in zip(s, c)])
    low, high = np.quantile(means, [0.025, 0.975])
    return {"values": [[None if np.isnan(v) else v for v in row] for row in values.tolist()],
            "mean": float(np.nanmean(values)), "low": float(low), "high": float(high)}


result = {"wilcoxon": wilcoxon(), "holm": holm(), "pairs": pairs(), "distances": distances(), "bootstrap": bootstrap()}
(DATA / "statistics.json").write_text(json.dumps(result, indent=0) + "\n")
