"""How far learned policies agree: rank correlation of their probabilities, and their divergence from uniform.

    python tests/reference/policy_agreement.py RUN/policy.toml RUN/policy.toml ...

Prints Spearman's correlation over the choices of every pair of files, and for each file the Kullback-Leibler divergence from a
uniform start in nats, summed over groups. Needs NumPy and SciPy.
"""

import sys
import tomllib

import numpy as np
from scipy.stats import spearmanr


def probabilities(path):
    """Of every group of the policy of all patches (target 0)."""
    with open(path, "rb") as file:
        policy = tomllib.load(file)
    for group in policy["groups"]:
        logits = np.array([choice["logits"][0] for choice in group["choices"]])
        weights = np.exp(logits - logits.max())
        yield weights / weights.sum()


def main(paths):
    policies = {path: list(probabilities(path)) for path in paths}
    for path, groups in policies.items():
        divergence = sum(np.sum(p * np.log(len(p) * p)) for p in groups)
        print(f"{path}: {divergence:.3f} nats from uniform")
    for number, first in enumerate(paths):
        for second in paths[number + 1 :]:
            ranks = spearmanr(np.concatenate(policies[first]), np.concatenate(policies[second]))
            print(f"{first} {second}: Spearman {ranks.statistic:.3f}")


main(sys.argv[1:])
