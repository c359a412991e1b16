"""Fixed, stratified, disjoint splits."""

from collections.abc import Mapping

import numpy as np


def stratified(
    labels: np.ndarray, sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """Disjoint sorted indices into ``labels`` per name, classes in equal shares.

    ``sizes`` must be a multiple of the number of classes where classes are equally frequent;
    otherwise each class gives its proportion, rounded by largest remainder. Raises ValueError
    when ``sizes`` ask for more than there is.
    """
    if sum(sizes.values()) > len(labels):
        raise ValueError(f"{sum(sizes.values())} samples asked for, {len(labels)} there")
    generator = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    queues = {c: generator.permutation(np.flatnonzero(labels == c)) for c in classes}
    taken = dict.fromkeys(classes.tolist(), 0)
    chosen = {}
    for name, size in sizes.items():
        parts = []
        left = counts - list(taken.values())
        for label, share in zip(classes.tolist(), _shares(counts, left, size), strict=True):
            parts.append(queues[label][taken[label]:taken[label] + share])
            taken[label] += share
        chosen[name] = np.sort(np.concatenate(parts))
    return chosen


def _shares(counts: np.ndarray, left: np.ndarray, size: int) -> list[int]:
    exact = counts * size / counts.sum()
    shares = np.minimum(np.floor(exact).astype(int), left)
    while shares.sum() < size:
        shares[np.argmax(np.where(shares < left, exact - shares, -np.inf))] += 1
    return shares.tolist()  # type: ignore[no-any-return]
