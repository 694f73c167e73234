"""Whether the classes are clusters of the latent space (equations 6.1)."""

import warnings
from typing import NamedTuple

import numpy as np


class Clustering(NamedTuple):
    """``accuracy``: every cluster named by the class that most training items in it have; ``one_to_one``: clusters and
    classes matched so that most test items are right, a class having one cluster at most; normalised mutual information
    and adjusted Rand index of clusters and classes."""

    accuracy: float
    one_to_one: float
    nmi: float
    ari: float


def clustering(
    fitted: np.ndarray, fitted_labels: np.ndarray, tested: np.ndarray, labels: np.ndarray, clusters: int, seed: int
) -> Clustering:
    """k-means with ``clusters`` centres on encodings (n, D) and their labels (n,), tested on others (N, D), (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct encodings than centres
        means = KMeans(min(clusters, len(fitted)), n_init=10, random_state=seed % 2**32).fit(fitted)
    assigned = means.predict(tested)
    return Clustering(
        by_majority(means.labels_, fitted_labels, assigned, labels), one_to_one(assigned, labels),
        float(normalized_mutual_info_score(labels, assigned)), float(adjusted_rand_score(labels, assigned)),
    )  # fmt: skip


def by_majority(given: np.ndarray, given_labels: np.ndarray, assigned: np.ndarray, labels: np.ndarray) -> float:
    """Share of test items whose cluster is named by their class; clusters are named by the training items ``given``."""
    names = np.array([np.bincount(own).argmax() if len(own := given_labels[given == c]) else -1
                      for c in range(max(given.max(), assigned.max()) + 1)])  # fmt: skip
    return float((names[assigned] == labels).mean())


def one_to_one(assigned: np.ndarray, labels: np.ndarray) -> float:
    """Clustering accuracy: the best share of right items under a matching of clusters with classes."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(assigned, labels)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(labels))
